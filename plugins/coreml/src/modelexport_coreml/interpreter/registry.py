"""The operators by name, and how they read their parameters.

An operator is a function of its named parameters, as Core ML's reference calls them. Tensors are PyTorch's, in
wide types (float32, int64, bool) whatever the program stores; constants of any size are tensors, texts are texts.
The caller rounds what it returns to the type that the program declares: so half precision is computed in float32
and stored in float16, as on the devices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

#: a tensor of PyTorch; imported by none of the signatures, so that describing stays cheap
Tensor = Any

Function = Callable[..., Any]

OPERATORS: dict[str, Function] = {}


def operator(*names: str) -> Callable[[Function], Function]:
    """Register a function under the names of the operators it computes."""

    def keep(function: Function) -> Function:
        for name in names:
            OPERATORS[name] = function
        return function

    return keep


def ints(value: Tensor) -> list[int]:
    """A parameter that holds whole numbers, as a list."""
    return [int(item) for item in value.reshape(-1).tolist()]


def axes_of(value: Tensor | None, rank: int) -> list[int]:
    """Axes counted from the front; all of them where none are given."""
    return list(range(rank)) if value is None else [axis % rank for axis in ints(value)]


def channels(value: Tensor, rank: int) -> Tensor:
    """A vector of one value a channel, shaped to go with a tensor that has its channels on axis 1."""
    return value.reshape([1, -1] + [1] * (rank - 2)) if value.ndim == 1 and rank > 1 else value


def same_padding(size: int, kernel: int, stride: int, lower: bool = False) -> tuple[int, int]:
    """Zeros before and after an axis so that a window at `stride` gives ceil(size / stride) values."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def paddings(
    pad_type: str, pad: Tensor | None, sizes: Sequence[int], kernels: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """What a window operator adds before and after each spatial axis."""
    if pad_type == "valid":
        return [(0, 0)] * len(sizes)
    if pad_type == "custom":
        flat = ints(pad)
        return list(zip(flat[::2], flat[1::2], strict=True))
    lower = pad_type == "same_lower"
    return [same_padding(*each, lower=lower) for each in zip(sizes, kernels, strides, strict=True)]


def flat_padding(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Paddings in PyTorch's order: the last axis first."""
    return [item for pair in reversed(pairs) for item in pair]
