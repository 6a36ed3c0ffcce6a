"""`-k key=value` ↔ the options dataclass that a target declares for a verb.

A field's type says what is accepted, its default what happens otherwise, and `option(help=…)` what it is
for: `-k help` and the reference pages print these. Known types: str, int, float, bool, Literal, optional
ones (`int | None`), and tuples of them (`-k providers=a,b`).
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from ..errors import MxError, OptionError, first_line
from ..regular import check_regular


@dataclass(frozen=True)
class NoOptions:
    """A verb without options."""


def option(default: Any, help: str) -> Any:
    """A field of an options dataclass: its default and its one-line help."""
    return field(default=default, metadata={"help": help})


def check_file(key: str, path: str | None) -> None:
    """Raise OptionError where the option `key` names no regular file; None names no file.

    For `__post_init__` of an options dataclass: options are made before the model is loaded, so what is wrong with
    them is said before any work.
    """
    from pathlib import Path

    if path is None:
        return
    try:
        check_regular(Path(path), kind=OptionError)
    except OptionError as error:
        absent = isinstance(error.__cause__, FileNotFoundError)
        said = "there is no such file" if absent else error.message
        raise OptionError(f"{key}={path}: {said}", "give the path of a file, or leave it out") from error


def check_writable(key: str, path: str | None) -> None:
    """Raise OptionError where the option `key` names a file that can't be written, whether it is there or not.

    For files that a later step writes, such as caches; None names no file.
    """
    from pathlib import Path

    if path is None:
        return
    place = Path(path)
    if place.exists() and not place.is_file():
        raise OptionError(f"{key}={path} is no file", "give the path of a file, there or to be written")
    if not place.absolute().parent.is_dir():
        raise OptionError(f"{key}={path}: there is no folder {place.parent}", "make the folder first")


def check_least(key: str, value: float | None, least: float) -> None:
    """Raise OptionError where the option `key` is below `least`; None is no value."""
    if value is not None and not value >= least:
        raise OptionError(f"{key}={value:g} makes no sense", f"give {least:g} or more")


def parse_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """Split `key=value` texts. Raises OptionError for one without `=` or given twice."""
    values: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise OptionError(f"can't read -k {pair!r}", "write -k key=value; -k help lists the options")
        if key in values:
            raise OptionError(f"option {key!r} is given twice", "give it once")
        values[key] = value
    return values


def build_options(kind: type, values: Mapping[str, Any], owner: str) -> Any:
    """An instance of the dataclass `kind` from texts (or ready values) by name.

    Raises OptionError for a key it lacks (one of…, did you mean) or a value of the wrong type.
    """
    hints = get_type_hints(kind)
    names = {key_of(f.name): f.name for f in fields(kind)}
    arguments = {}
    for key, value in values.items():
        name = names.get(key.replace("_", "-"))
        if name is None:
            raise OptionError(f"{owner} has no option {key!r}", suggest(key, list(names)))
        arguments[name] = _convert(hints[name], value, key, owner)
    try:
        return kind(**arguments)
    except MxError:
        raise
    except Exception as error:  # a plugin's own check of them
        raise OptionError(
            f"{owner} can't take these options: {type(error).__name__}: {first_line(error)}",
            "--debug shows the whole trace",
        ) from error


#: by convention, the option of a verb that loads a model whose code may open files; --allow-file-access sets it
FILE_ACCESS = "allow-file-access"


def option_keys(kind: type) -> set[str]:
    """The keys of the options of the dataclass `kind`."""
    return {key_of(f.name) for f in fields(kind)} if is_dataclass(kind) else set()


def key_of(name: str) -> str:
    """The key by which `-k` knows the field `name`."""
    return name.replace("_", "-")


class OptionHelp(NamedTuple):
    """One option as `-k help` shows it."""

    key: str
    type: str
    default: str
    help: str


def describe_options(kind: type) -> list[OptionHelp]:
    """Every option of the dataclass `kind`, in order, as `-k help` shows it."""
    hints = get_type_hints(kind)
    rows = []
    for item in fields(kind):
        default = item.default if item.default is not MISSING else None
        rows.append(
            OptionHelp(
                key_of(item.name),
                type_name(hints[item.name]),
                _show(default),
                item.metadata.get("help", ""),
            )
        )
    return rows


def _show(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)


def type_name(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "|".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(a) for a in arguments if a is not type(None))
    if origin is tuple:
        return f"list of {type_name(arguments[0])}"
    return str(getattr(hint, "__name__", hint))


def suggest(key: str, names: list[str]) -> str:
    """A hint for an unknown `key`: the nearest of `names`, or all of them."""
    if not names:
        return "it has none"
    from difflib import get_close_matches

    close = get_close_matches(key, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"one of {', '.join(sorted(names))}"


def _convert(hint: Any, value: Any, key: str, owner: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None or value in ("none", "None"):
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, key, owner)
    if origin is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(_convert(arguments[0], part, key, owner) for part in parts)
    if origin is Literal:
        match = next((a for a in arguments if str(a) == str(value)), None)
        if match is None:
            raise OptionError(f"{owner}: {key}={value} is not allowed", f"one of {', '.join(map(str, arguments))}")
        return match
    return _scalar(hint, value, key, owner)


_TRUTH = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def _scalar(hint: Any, value: Any, key: str, owner: str) -> Any:
    text = str(value)
    try:
        if hint is bool:
            return _TRUTH[text.lower()]
        if hint in (int, float) and not isinstance(value, bool):
            return hint(text)
    except (KeyError, ValueError):
        pass
    if hint is str and isinstance(value, str):
        return value
    examples = {bool: "true or false", int: "a whole number", float: "a number"}
    raise OptionError(f"{owner}: {key}={text} is not {type_name(hint)}", f"give {examples.get(hint, 'text')}")
