"""Pooling over one, two or three axes."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .registry import Tensor, flat_padding, ints, operator, paddings

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@operator("max_pool")
def max_pool(
    x: Tensor, kernel_sizes: Tensor, strides: Tensor, pad_type: str, pad: Tensor | None = None,
    ceil_mode: Tensor | None = None,
) -> Tensor:  # fmt: skip
    kernels, steps = ints(kernel_sizes), ints(strides)
    pairs, beyond = _windows(x, kernels, steps, pad_type, pad, ceil_mode)
    padded = F.pad(F.pad(x, flat_padding(pairs), value=-torch.inf), flat_padding(beyond), value=-torch.inf)
    return _MAX[len(kernels)](padded, kernels, steps)


@operator("avg_pool")
def avg_pool(
    x: Tensor, kernel_sizes: Tensor, strides: Tensor, pad_type: str, exclude_padding_from_average: Tensor,
    pad: Tensor | None = None, ceil_mode: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Sums over counts: padding counts unless it is excluded, what ceil mode adds never does."""
    kernels, steps = ints(kernel_sizes), ints(strides)
    pairs, beyond = _windows(x, kernels, steps, pad_type, pad, ceil_mode)
    counted = torch.ones([1, 1, *x.shape[2:]], dtype=x.dtype)
    counted = F.pad(counted, flat_padding(pairs), value=0.0 if exclude_padding_from_average else 1.0)
    padded = F.pad(F.pad(x, flat_padding(pairs)), flat_padding(beyond))
    mean = _MEAN[len(kernels)]
    return mean(padded, kernels, steps) / mean(F.pad(counted, flat_padding(beyond)), kernels, steps)


@operator("l2_pool")
def l2_pool(
    x: Tensor, kernel_sizes: Tensor, strides: Tensor, pad_type: str, pad: Tensor | None = None,
    ceil_mode: Tensor | None = None,
) -> Tensor:  # fmt: skip
    kernels, steps = ints(kernel_sizes), ints(strides)
    pairs, beyond = _windows(x, kernels, steps, pad_type, pad, ceil_mode)
    padded = F.pad(F.pad(x.square(), flat_padding(pairs)), flat_padding(beyond))
    area = torch.tensor(kernels).prod()
    return (_MEAN[len(kernels)](padded, kernels, steps) * area).sqrt()


def _windows(
    x: Tensor, kernels: list[int], steps: list[int], pad_type: str, pad: Tensor | None, ceil_mode: Tensor | None
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Padding of each axis, and what ceil mode adds after it so that the last window is a whole one."""
    pairs = paddings(pad_type, pad, x.shape[2:], kernels, steps)
    beyond = [(0, 0)] * len(pairs)
    if ceil_mode is None or not ceil_mode:
        return pairs, beyond
    for axis, ((before, after), kernel, step) in enumerate(zip(pairs, kernels, steps, strict=True)):
        size = x.shape[2 + axis]
        rest = (size + before + after - kernel) % step
        starts = size + before + after - kernel - rest + step
        if rest and starts < size + before:  # a window that begins in the padding after the end is none
            beyond[axis] = (0, step - rest)
    return pairs, beyond
