"""Operators that move values: reshaping, slicing, joining, padding, filling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from .registry import Tensor, axes_of, flat_padding, ints, operator


@operator("shape")
def shape(x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape), dtype=torch.int64)


@operator("reshape")
def reshape(x: Tensor, shape: Tensor) -> Tensor:
    """Zero keeps a size, -1 is what is left."""
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(ints(shape))])


@operator("transpose")
def transpose(x: Tensor, perm: Tensor) -> Tensor:
    return x.permute(ints(perm))


@operator("expand_dims")
def expand_dims(x: Tensor, axes: Tensor) -> Tensor:
    rank = x.ndim + axes.numel()
    for axis in sorted(axis % rank for axis in ints(axes)):
        x = x.unsqueeze(axis)
    return x


@operator("squeeze")
def squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(ints(axes))


@operator("flatten2d")
def flatten2d(x: Tensor, axis: Tensor) -> Tensor:
    rows = 1
    for size in x.shape[: int(axis) % (x.ndim + 1)]:
        rows *= size
    return x.reshape(rows, -1)


@operator("concat")
def concat(values: Sequence[Tensor], axis: Tensor, interleave: Tensor | None = None) -> Tensor:
    """Scalars join as vectors of one value. Interleaved, the values take turns along the axis."""
    parts = [value.reshape(1) if value.ndim == 0 else value for value in values]
    along = int(axis) % parts[0].ndim
    if interleave is None or not interleave:
        return torch.cat(parts, along)
    return torch.stack(parts, along + 1).flatten(along, along + 1)


@operator("stack")
def stack(values: Sequence[Tensor], axis: Tensor) -> Tensor:
    return torch.stack(list(values), int(axis))


@operator("split")
def split(
    x: Tensor, axis: Tensor, num_splits: Tensor | None = None, split_sizes: Tensor | None = None
) -> tuple[Tensor, ...]:
    along = int(axis)
    if split_sizes is not None:
        return tuple(x.split(ints(split_sizes), along))
    assert num_splits is not None
    return tuple(x.split(x.shape[along] // int(num_splits), along))


@operator("slice_by_index")
def slice_by_index(
    x: Tensor, begin: Tensor, end: Tensor, stride: Tensor | None = None, begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None, squeeze_mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    x, dropped = _sliced(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    return x.squeeze(dropped) if dropped else x


@operator("slice_update")
def slice_update(
    x: Tensor, update: Tensor, begin: Tensor, end: Tensor, stride: Tensor | None = None,
    begin_mask: Tensor | None = None, end_mask: Tensor | None = None, squeeze_mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    places = torch.arange(x.numel()).reshape(x.shape)
    chosen, _ = _sliced(places, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    flat = x.reshape(-1).clone()
    flat[chosen.reshape(-1)] = update.to(x.dtype).reshape(-1)
    return flat.reshape(x.shape)


def _sliced(
    x: Tensor, begin: Tensor, end: Tensor, stride: Tensor | None, begin_mask: Tensor | None,
    end_mask: Tensor | None, squeeze_mask: Tensor | None,
) -> tuple[Tensor, list[int]]:  # fmt: skip
    """The slice with every axis kept, and the axes to drop. A mask leaves a bound out; strides may be negative."""
    rank = x.ndim
    steps = [1] * rank if stride is None else ints(stride)
    masks = [
        [False] * rank if mask is None else mask.bool().tolist() for mask in (begin_mask, end_mask, squeeze_mask)
    ]
    for axis, (first, last) in enumerate(zip(ints(begin), ints(end), strict=True)):
        if masks[2][axis]:
            first %= x.shape[axis]
            x = x.narrow(axis, first, 1)
            continue
        bounds = slice(None if masks[0][axis] else first, None if masks[1][axis] else last, steps[axis])
        start, stop, step = bounds.indices(x.shape[axis])
        if step == 1:
            x = x.narrow(axis, start, max(0, stop - start))
        else:
            x = x.index_select(axis, torch.arange(start, stop, step) if (stop - start) * step > 0 else _NONE)
    return x, [axis for axis in range(rank) if masks[2][axis]]


_NONE = torch.zeros(0, dtype=torch.int64)


@operator("slice_by_size")
def slice_by_size(x: Tensor, begin: Tensor, size: Tensor) -> Tensor:
    for axis, (first, count) in enumerate(zip(ints(begin), ints(size), strict=True)):
        first %= max(1, x.shape[axis])
        x = x.narrow(axis, first, x.shape[axis] - first if count == -1 else count)
    return x


@operator("crop")
def crop(x: Tensor, crop_height: Tensor, crop_width: Tensor) -> Tensor:
    (top, bottom), (left, right) = ints(crop_height), ints(crop_width)
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


@operator("reverse")
def reverse(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.flip(axes_of(axes, x.ndim))


@operator("tile")
def tile(x: Tensor, reps: Tensor) -> Tensor:
    return x.repeat(ints(reps))


@operator("pad")
def pad(x: Tensor, pad: Tensor, mode: str = "constant", constant_val: Tensor | None = None) -> Tensor:
    flat = ints(pad)
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    if mode == "constant":
        value = 0 if constant_val is None else constant_val.item()
        return F.pad(x, flat_padding(pairs), value=value)
    for axis, (before, after) in enumerate(pairs, start=x.ndim - len(pairs)):
        places = torch.arange(-before, x.shape[axis] + after)
        x = x.index_select(axis, _inside(places, x.shape[axis], mode))
    return x


def _inside(places: Tensor, size: int, mode: str) -> Tensor:
    """Positions outside an axis, brought back into it: mirrored at its ends, or clamped to them."""
    if mode == "replicate" or size == 1:
        return places.clamp(0, size - 1)
    folded = places.abs() % (2 * size - 2)
    return torch.where(folded < size, folded, 2 * size - 2 - folded)


@operator("fill")
def fill(shape: Tensor, value: Tensor) -> Tensor:
    return torch.full(ints(shape), value.item())


@operator("fill_like")
def fill_like(ref_tensor: Tensor, value: Tensor) -> Tensor:
    return torch.full(list(ref_tensor.shape), value.item())


@operator("range_1d")
def range_1d(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), end.item(), step.item())


@operator("band_part")
def band_part(x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    x = x if lower < 0 else x.triu(-int(lower))
    return x if upper < 0 else x.tril(int(upper))


@operator("sliding_windows")
def sliding_windows(x: Tensor, axis: Tensor, size: Tensor, stride: Tensor) -> Tensor:
    along = int(axis) % x.ndim
    return x.unfold(along, int(size), int(stride)).movedim(-1, along + 1)


@operator("pixel_shuffle")
def pixel_shuffle(x: Tensor, upscale_factor: Tensor) -> Tensor:
    return F.pixel_shuffle(x, int(upscale_factor))


@operator("pixel_unshuffle")
def pixel_unshuffle(x: Tensor, downscale_factor: Tensor) -> Tensor:
    return F.pixel_unshuffle(x, int(downscale_factor))


@operator("depth_to_space")
def depth_to_space(x: Tensor, block_size: Tensor) -> Tensor:
    """Blocks come first in the channels, unlike in pixel_shuffle."""
    block, (batch, depth, height, width) = int(block_size), x.shape
    parts = x.reshape(batch, block, block, depth // block**2, height, width)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(batch, depth // block**2, height * block, width * block)


@operator("space_to_depth")
def space_to_depth(x: Tensor, block_size: Tensor) -> Tensor:
    block, (batch, depth, height, width) = int(block_size), x.shape
    parts = x.reshape(batch, depth, height // block, block, width // block, block)
    return parts.permute(0, 3, 5, 1, 2, 4).reshape(batch, depth * block**2, height // block, width // block)
