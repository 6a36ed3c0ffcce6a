"""Lists in messages: long enough to help, short enough to read."""

from __future__ import annotations

from collections.abc import Iterable

from ..contract.quantization import QuantizedLayer

#: items that one message names, and layers that the notes of an artifact name, at most
NAMED, NOTED = 20, 5


def listed(items: Iterable[str], most: int = NAMED) -> str:
    """The items with semicolons between them, those after the first `most` counted.

    >>> listed(["a", "b", "c"], most=2)
    'a; b; and 1 more'
    """
    every = list(items)
    more = f"; and {len(every) - most} more" if len(every) > most else ""
    return "; ".join(every[:most]) + more


def left_as_they_are(layers: Iterable[QuantizedLayer], most: int = NOTED) -> list[str]:
    """A note for each layer of a quantized model that stays in floating point, and one that counts the rest."""
    left = [layer for layer in layers if layer.precision.startswith(("float", "bfloat"))]
    lines = [
        f"{layer.name} stays in {layer.precision}" + (f": {layer.note}" if layer.note else "")
        for layer in left[:most]
    ]
    if len(left) > most:
        lines.append(f"{len(left) - most} more stay as they are: `mx inspect --quantization` lists them")
    return lines
