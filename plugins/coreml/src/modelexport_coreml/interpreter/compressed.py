"""Weights stored in fewer bits: integers and scales, indices into tables, masks and what they leave."""

from __future__ import annotations

import torch

from .registry import Tensor, ints, operator


@operator("constexpr_cast")
def constexpr_cast(source_val: Tensor, output_dtype: str) -> Tensor:
    return source_val


@operator("constexpr_affine_dequantize")
def constexpr_affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: Tensor) -> Tensor:
    shape = [1] * quantized_data.ndim
    shape[int(axis)] = -1
    shift, factor = (value.reshape(shape) if value.ndim else value for value in (zero_point, scale))
    return (quantized_data - shift).float() * factor


@operator("constexpr_blockwise_shift_scale")
def constexpr_blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    shifted = data.float() if offset is None else data.float() - _spread(offset, data)
    return shifted * _spread(scale, data)


def _spread(value: Tensor, like: Tensor) -> Tensor:
    """One value a block, repeated over the blocks of `like`."""
    for axis, (have, want) in enumerate(zip(value.shape, like.shape, strict=True)):
        if want != have:
            value = value.repeat_interleave(want // have, axis)
    return value


@operator("constexpr_lut_to_dense")
def constexpr_lut_to_dense(
    indices: Tensor, lut: Tensor, vector_axis: Tensor | None = None, shape: Tensor | None = None
) -> Tensor:
    """Since iOS 18 a table for each block of the indices; before, one for all, and indices packed into bytes."""
    if shape is not None:
        bits = int(lut.numel()).bit_length() - 1
        sizes = ints(shape)
        return lut[_unpacked(indices, bits, torch.Size(sizes).numel())].reshape(sizes)
    count, width = lut.shape[-2:]
    tables = torch.arange(lut.numel() // (count * width)).reshape(lut.shape[:-2])
    vectors = lut.reshape(-1, count, width)[_spread(tables, indices), indices]
    if width == 1:
        return vectors.squeeze(-1)
    assert vector_axis is not None
    along = int(vector_axis) % indices.ndim
    return vectors.movedim(-1, along + 1).flatten(along, along + 1)


@operator("constexpr_sparse_to_dense")
def constexpr_sparse_to_dense(nonzero_data: Tensor, mask: Tensor, shape: Tensor | None = None) -> Tensor:
    if shape is not None:
        sizes = ints(shape)
        mask = _unpacked(mask, 1, torch.Size(sizes).numel()).reshape(sizes)
    return _filled(nonzero_data, mask)


@operator("constexpr_lut_to_sparse")
def constexpr_lut_to_sparse(
    indices_mask: Tensor, indices_nonzero_data: Tensor, lut: Tensor, vector_axis: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    dense = constexpr_lut_to_dense(_filled(indices_nonzero_data, indices_mask), lut, vector_axis)
    mask = indices_mask
    if lut.shape[-1] > 1:
        assert vector_axis is not None
        mask = mask.repeat_interleave(lut.shape[-1], int(vector_axis))
    return mask, dense[mask.bool()]


@operator("constexpr_sparse_blockwise_shift_scale")
def constexpr_sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    dense = constexpr_blockwise_shift_scale(_filled(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask.bool()]


def _filled(values: Tensor, mask: Tensor) -> Tensor:
    dense = torch.zeros(mask.shape, dtype=values.dtype)
    dense[mask.bool()] = values.reshape(-1)
    return dense


def _unpacked(packed: Tensor, bits: int, count: int) -> Tensor:
    """Numbers of `bits` bits from bytes, lowest bit first."""
    stream = (packed.reshape(-1, 1) >> torch.arange(8)) & 1
    numbers = stream.reshape(-1)[: count * bits].reshape(count, bits)
    return (numbers << torch.arange(bits)).sum(-1)
