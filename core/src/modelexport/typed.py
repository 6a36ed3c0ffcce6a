"""Plain data, as JSON holds it, read as frozen dataclasses by their type hints.

What doesn't fit raises `Mismatch`, which names the place (`inputs[0].shape[1]`), what was expected there, and what
was found. The hints that are understood: `str`, `int`, `float`, `bool`, `None`, `Any` (plain data), `Literal`,
unions, `tuple[X, ...]` and `tuple[X, Y]` (lists), `Mapping[str, X]`, other dataclasses, and `Annotated` with a
`Check` or `Like`. A key without a field is refused, a field without a default is required.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import PurePosixPath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

Reader = Callable[[Any], Any]

#: levels of plain data, integers as every language has them, characters of a name
DEPTH, LARGEST, NAME_LENGTH = 32, 2**63 - 1, 1000

#: what no text holds: it would move a terminal's cursor, or can't be written as UTF-8
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class Mismatch(ValueError):
    """A value that isn't what its place takes."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(expected, found)
        self.place, self.expected, self.found = "", expected, found

    def __str__(self) -> str:
        where = f"{self.place.removeprefix('.')}: " if self.place else ""
        return f"{where}expected {self.expected}, found {self.found}"

    def under(self, step: str) -> Mismatch:
        """The same, one level further out: `step` leads to where it was."""
        self.place = step + self.place
        return self


@dataclass(frozen=True)
class Check:
    """What a value is besides its type: `expected` says it in words, `holds` tells whether it is."""

    expected: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Like:
    """The value is what the dataclass `kind` says, but is kept as the plain data that it is."""

    kind: type


def read(kind: Any, value: Any) -> Any:
    """`value` as the type `kind`. Raises Mismatch."""
    return _reader(kind)(value)


def printable(value: Any) -> Any:
    """Plain data as `read` takes it: a mark in place of what no text may hold, None of what is no finite number.

    Keys stay as they are.
    """
    if isinstance(value, str):
        return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value.replace("\r\n", "\n"))
    if isinstance(value, Mapping):
        return {key: printable(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return [printable(item) for item in value] if isinstance(value, (list, tuple)) else value


# --------------------------------------------------------------------------------------- readers


@cache
def _reader(hint: Any) -> Reader:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _annotated(_reader(arguments[0]), arguments[1:])
    if origin in (Union, UnionType):
        return _union([_reader(a) for a in arguments if a is not NoneType], NoneType in arguments)
    if origin is Literal:
        return _literal(arguments)
    if origin is tuple:
        return _tuple(arguments)
    if origin is Mapping:
        return _mapping(_reader(arguments[1]))
    return _record(hint) if is_dataclass(hint) else _SCALARS[hint]


def _annotated(inner: Reader, notes: tuple[Check | Like, ...]) -> Reader:
    def checked(value: Any) -> Any:
        taken = inner(value)
        for note in notes:
            if isinstance(note, Like):
                read(note.kind, value)
            elif not note.holds(taken):
                raise Mismatch(note.expected, _shown(value))
        return taken

    return checked


def _union(readers: list[Reader], optional: bool) -> Reader:
    def one_of(value: Any) -> Any:
        if value is None and optional:
            return None
        if len(readers) == 1:
            return readers[0](value)
        missed = []
        for reader in readers:
            try:
                return reader(value)
            except Mismatch as error:
                missed.append(error)
        if inner := next((error for error in missed if error.place), None):
            raise inner
        expected = [error.expected for error in missed] + ["null"] * optional
        raise Mismatch(" or ".join(expected), missed[0].found)

    return one_of


def _literal(allowed: tuple[Any, ...]) -> Reader:
    known = {(type(each), each): each for each in allowed}

    def literal(value: Any) -> Any:
        if not isinstance(value, (str, int)) or (type(value), value) not in known:
            raise Mismatch(f"one of {', '.join(map(str, allowed))}", _shown(value))
        return value

    return literal


def _tuple(arguments: tuple[Any, ...]) -> Reader:
    open_ended = arguments[-1] is Ellipsis
    readers = [_reader(each) for each in arguments if each is not Ellipsis]

    def items(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise Mismatch("a list", _shown(value))
        if not open_ended and len(value) != len(readers):
            raise Mismatch(f"a list of {len(readers)}", _shown(value))
        of_each = readers * len(value) if open_ended else readers
        return tuple(_inside(f"[{i}]", of_each[i], item) for i, item in enumerate(value))

    return items


def _mapping(reader: Reader) -> Reader:
    def mapping(value: Any) -> Any:
        _object(value)
        return {_key(key): _inside(f".{key}", reader, item) for key, item in value.items()}

    return mapping


def _record(kind: Any) -> Reader:
    hints = get_type_hints(kind, include_extras=True)
    readers = {each.name: _reader(hints[each.name]) for each in fields(kind) if each.init}
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]

    def record(value: Any) -> Any:
        _object(value)
        if missing := [name for name in required if name not in value]:
            raise Mismatch("a value", "none").under(f".{missing[0]}")
        if strangers := [key for key in value if key not in readers]:
            raise Mismatch(f"one of the keys {', '.join(readers) or '(none)'}", f"the key {_shown(strangers[0])}")
        return kind(**{key: _inside(f".{key}", readers[key], item) for key, item in value.items()})

    return record


def _inside(step: str, reader: Reader, value: Any) -> Any:
    try:
        return reader(value)
    except Mismatch as error:
        raise error.under(step[:80] if step.isprintable() else "[?]") from None


def _object(value: Any) -> None:
    if not isinstance(value, Mapping):
        raise Mismatch("an object", _shown(value))


def _key(value: Any) -> str:
    if not isinstance(value, str) or _UNPRINTABLE.search(value):
        raise Mismatch("keys of printable text", _shown(value))
    return value


# --------------------------------------------------------------------------------------- values


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise Mismatch("text", _shown(value))
    if _UNPRINTABLE.search(value):
        raise Mismatch("text without control characters", _shown(value))
    return value


def _whole(value: Any) -> Any:
    if not isinstance(value, int) or isinstance(value, bool) or not -LARGEST <= value <= LARGEST:
        raise Mismatch("a whole number of at most 64 bits", _shown(value))
    return value


def _number(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value):
        return value
    try:
        return _whole(value)
    except Mismatch as error:
        raise Mismatch("a finite number", error.found) from None


def _truth(value: Any) -> Any:
    if not isinstance(value, bool):
        raise Mismatch("true or false", _shown(value))
    return value


def _nothing(value: Any) -> Any:
    if value is not None:
        raise Mismatch("null", _shown(value))
    return value


def _plain(value: Any, depth: int = 0) -> Any:
    """Whatever JSON can say, unchanged: finite, printable, and not nested without end."""
    if depth > DEPTH:
        raise Mismatch(f"at most {DEPTH} levels", "more")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _inside(f".{_key(key)}", lambda each: _plain(each, depth + 1), item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _inside(f"[{index}]", lambda each: _plain(each, depth + 1), item)
    elif isinstance(value, str):
        _text(value)
    elif value is not None and not isinstance(value, bool):
        _number(value)
    return value


_SCALARS: Mapping[Any, Reader] = {
    str: _text, int: _whole, float: _number, bool: _truth, NoneType: _nothing, Any: _plain,
}  # fmt: skip


def _shown(value: Any) -> str:
    """The value in a message: short, and without what a terminal would obey."""
    if isinstance(value, Mapping):
        return f"an object of {len(value)}"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST:
        return "a larger one"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value) if str(value).isprintable() else ascii(value)
    return text if len(text) <= 80 else f"{text[:40]}…{text[-39:]}"


# --------------------------------------------------------------------------------------- what records are made of


def _is_name(text: str) -> bool:
    return 0 < len(text) <= NAME_LENGTH and text.isprintable()


def _lies_inside(path: str) -> bool:
    pure = PurePosixPath(path)
    plain = _is_name(path) and str(pure) == path and path != "."
    return plain and not pure.is_absolute() and ".." not in pure.parts and not set(path) & {"\\", ":"}


#: a tensor's, a dim's: printable characters alone, so that no terminal, file or program reads more into it
Name = Annotated[str, Check(f"a name of 1 to {NAME_LENGTH} printable characters", _is_name)]

#: a target's, or that of a program or a live module
Format = Annotated[
    str, Check("a name of small letters, digits, - and _", re.compile(r"[a-z0-9][a-z0-9_-]{0,63}").fullmatch)
]

#: a file or folder of the artifact, relative to it
InsidePath = Annotated[str, Check("a path with / that leads nowhere outside the artifact", _lies_inside)]

Sha256 = Annotated[str, Check("a sha256 of 64 hex digits", re.compile(r"[0-9a-f]{64}").fullmatch)]

#: a size or a number of things, from 0 or from 1
Count = Annotated[int, Check("0 or more", lambda value: value >= 0)]
Positive = Annotated[int, Check("1 or more", lambda value: value >= 1)]
