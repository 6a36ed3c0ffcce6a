"""Lists of numbers, as JSON has them, as arrays."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..contract.tensors import Array


def array_of(value: Any) -> Array:
    """Nested lists of numbers, or one number, as an array. Raises ValueError for anything else.

    Among texts, numpy gives every element the space of the longest: a few megabytes become terabytes.
    """
    import numpy as np

    level = [value]
    while (kinds := set(map(type, level))) == {list}:
        level = list(chain.from_iterable(level))
    if not kinds <= {int, float, bool}:
        raise ValueError(f"it holds {', '.join(sorted(kind.__name__ for kind in kinds))}")
    array = np.array(value)
    if array.dtype.kind not in "biuf":
        raise ValueError("a number is too large")
    return array
