"""Source code from an artifact's signature: names and sizes as C++, Java, Kotlin and Swift take them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import Template

from ..contract.artifacts import Artifact
from ..contract.tensors import Dim, TensorSpec
from ..errors import ConversionError
from .sizes import bounded

#: a dollar within a string of Kotlin's
KOTLIN_DOLLAR = "\\$"

#: words that a model may call an input, and one of the languages or the programs something else
_RESERVED = """
and args auto bool break byte case catch char class const continue data default delete do double else enum export
false final float for fun func goto if import in int interface is let long main module new null object operator or
out outputs package path private public result results return run short show sizes static string struct super
switch template tensor this throw true try type typeof union using val value var void when while
"""


@dataclass(frozen=True)
class Value:
    """An input or output as source code needs it.

    `name` is the model's, `identifier` the code's; `sizes` are numbers, and names of constants for dynamic dims.
    As text, it can stand in a comment.
    """

    name: str
    identifier: str
    dtype: str
    sizes: tuple[int | str, ...]

    @property
    def count(self) -> str:
        """An expression for how many elements it has."""
        return " * ".join(map(str, self.sizes)) or "1"

    @property
    def shape(self) -> str:
        return ", ".join(map(str, self.sizes))

    def __str__(self) -> str:
        return commented(f"{self.name}: {self.dtype}[{self.shape}]")


@dataclass(frozen=True)
class Signature:
    """An artifact's inputs, outputs and dynamic dims, each under a name that code can have."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    dims: tuple[Dim, ...]

    def constants(self, line: str, sizes: Mapping[str, int] | None = None) -> str:
        """A line of code for each dynamic dim: `line` has places for its `$name`, a `$size`, and its `$range`.

        `sizes` are those that a program begins with, by dim; small ones where it says nothing.
        """
        begin = {dim.name: small_size(dim) for dim in self.dims} | dict(sizes or {})
        return "".join(
            Template(line).substitute(name=constant(dim), size=begin[dim.name], range=commented(str(dim))) + "\n"
            for dim in self.dims
        )


def signature(artifact: Artifact, largest: Mapping[str, int] | None = None) -> Signature:
    """The artifact's signature; `largest` bounds dims that are declared without an end."""
    specs = [bounded(spec, largest or {}) for spec in artifact.inputs]
    dims = {dim.name: dim for spec in specs for dim in spec.dims}
    taken: set[str] = set()
    inputs = tuple(_value(spec, taken) for spec in specs)
    return Signature(inputs, tuple(_value(spec, taken) for spec in artifact.outputs), tuple(dims.values()))


def _value(spec: TensorSpec, taken: set[str]) -> Value:
    name = base = identifier(spec.name)
    number = 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    taken.add(name)
    return Value(spec.name, name, spec.dtype, tuple(constant(s) if isinstance(s, Dim) else s for s in spec.shape))


def constant(dim: Dim) -> str:
    """The name of the constant that holds the size of a dim."""
    return identifier(dim.name).upper()


def small_size(dim: Dim) -> int:
    """A size of a dim that a program can begin with: 2 or the next that it takes."""
    return next((size for size in dim.sizes if size >= 2), dim.sizes[0])


def identifier(name: str) -> str:
    """`name` as it can be used in every one of the languages.

    >>> identifier("input.0"), identifier("class"), identifier("2d")
    ('input_0', 'class_', '_2d')
    """
    word = re.sub(r"\W", "_", name, flags=re.ASCII)
    word = f"_{word}" if not word or word[0].isdigit() else word
    return f"{word}_" if word.lower() in _RESERVED.split() else word


def quoted(text: str, dollar: str = "$") -> str:
    """A string literal in any of the languages: what needs an escape has the same in all of them.

    Kotlin, which reads a dollar otherwise, has a `dollar` of its own: `quoted(text, KOTLIN_DOLLAR)`. Raises
    ConversionError for text with control characters, whose escapes differ.
    """
    if not text.replace("\n", "").replace("\t", "").isprintable():
        raise ConversionError(
            f"{text!r} can't be written in source code: it holds what can't be printed", "rename it in the model"
        )
    return json.dumps(text, ensure_ascii=False).replace("$", dollar)


def commented(text: str) -> str:
    r"""`text` in a comment of any of the languages: nothing in it ends the comment, or means something there.

    A backslash begins an escape in Java's comments too, and at the end of a line of C++ takes in the next.

    >>> commented(r"x */ \u000a exit(0);")
    'x *_ _u000a exit(0);'
    """
    shown = "".join(letter if letter.isprintable() and letter not in "\\`" else "_" for letter in text)
    return shown.replace("*/", "*_").replace("/*", "/_").replace("??/", "??_")
