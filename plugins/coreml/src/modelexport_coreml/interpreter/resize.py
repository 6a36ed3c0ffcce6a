"""Resizing and sampling of the last two axes."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .registry import Tensor, ints, operator


@operator("upsample_nearest_neighbor")
def upsample_nearest_neighbor(x: Tensor, scale_factor_height: Tensor, scale_factor_width: Tensor) -> Tensor:
    return _nearest(x, *_scaled(x, scale_factor_height, scale_factor_width))


@operator("resize_nearest_neighbor")
def resize_nearest_neighbor(x: Tensor, target_size_height: Tensor, target_size_width: Tensor) -> Tensor:
    return _nearest(x, int(target_size_height), int(target_size_width))


@operator("upsample_bilinear")
def upsample_bilinear(
    x: Tensor, scale_factor_height: Tensor, scale_factor_width: Tensor, align_corners: Tensor,
    half_pixel_centers: Tensor | None = None,
) -> Tensor:  # fmt: skip
    halves = not align_corners if half_pixel_centers is None else bool(half_pixel_centers)
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if halves else "DEFAULT"
    return _linear(x, *_scaled(x, scale_factor_height, scale_factor_width), mode)


@operator("resize_bilinear")
def resize_bilinear(
    x: Tensor, target_size_height: Tensor, target_size_width: Tensor, sampling_mode: str
) -> Tensor:
    return _linear(x, int(target_size_height), int(target_size_width), sampling_mode)


@operator("resize")
def resize(
    x: Tensor,
    shape: Tensor,
    resized_dims: Tensor,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    height, width = (new or old for new, old in zip(ints(shape)[-2:], x.shape[-2:], strict=True))
    if interpolation_mode == "LINEAR":
        return _linear(x, height, width, sampling_mode)
    return _nearest(x, height, width)


@operator("resample")
def resample(
    x: Tensor, coordinates: Tensor, sampling_mode: str, padding_mode: str, padding_value: Tensor,
    coordinates_mode: str, align_corners: Tensor,
) -> Tensor:  # fmt: skip
    padding = {"constant": "zeros", "border": "border", "reflection": "reflection"}[padding_mode]
    if coordinates_mode != "normalized_minus_one_to_one":
        raise NotImplementedError(f"resample with coordinates_mode {coordinates_mode}")
    shift = float(padding_value) if padding == "zeros" else 0.0
    sampled = F.grid_sample(x - shift, coordinates, sampling_mode, padding, bool(align_corners))
    return sampled + shift


def _scaled(x: Tensor, height: Tensor, width: Tensor) -> tuple[int, int]:
    """Sizes times factors, rounded down; a factor in float32 may lie just below the one that was meant."""
    rows, columns = x.shape[-2:]
    return int(rows * float(height) + 1e-4), int(columns * float(width) + 1e-4)


def _nearest(x: Tensor, height: int, width: int) -> Tensor:
    rows = torch.arange(height) * x.shape[-2] // height
    columns = torch.arange(width) * x.shape[-1] // width
    return x.index_select(-2, rows).index_select(-1, columns)


def _linear(x: Tensor, height: int, width: int, mode: str) -> Tensor:
    return _along(_along(x, -2, height, mode), -1, width, mode)


def _along(x: Tensor, axis: int, size: int, mode: str) -> Tensor:
    """Linear interpolation of one axis at the positions that a sampling mode means."""
    last = x.shape[axis] - 1
    places = _positions(last + 1, size, mode).clamp(0, last)
    low = places.floor().long()
    share = (places - low).float().reshape([-1] + [1] * (-axis - 1))
    first, second = (x.index_select(axis, at.clamp(max=last)) for at in (low, low + 1))
    return first * (1 - share) + second * share


def _positions(old: int, new: int, mode: str) -> Tensor:
    steps = torch.arange(new, dtype=torch.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if new == 1:
            return steps + ((old - 1) / 2 if mode == "ALIGN_CORNERS" else 0)
        return steps * (old - 1) / (new - 1)
    if mode == "OFFSET_CORNERS":
        delta = max(1, old - 1) / new
        return steps * delta + delta / 2
    return steps * old / new + (0.5 * old / new - 0.5 if mode == "UNALIGN_CORNERS" else 0)
