"""Lists of numbers, as JSON has them, as arrays."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..contract.tensors import Array


def array_of(value: Any) -> Array:
    """Nested lists of numbers, or one number, as an array. Raises ValueError for anything else.

    Among texts, numpy gives every element the space of the longest: a few megabytes become terabytes. That there
    is none is seen first, in the quickest way: only numbers have a sum.
    """
    import numpy as np

    try:
        level = [value]
        while level and type(level[0]) is list:
            level = list(chain.from_iterable(level))
        sum(level)
    except (TypeError, OverflowError) as error:
        raise ValueError("it holds something else, or a number that is too large") from error
    array = np.array(value)
    if array.dtype.kind not in "biuf":
        raise ValueError("it holds a number that is too large")
    return array
