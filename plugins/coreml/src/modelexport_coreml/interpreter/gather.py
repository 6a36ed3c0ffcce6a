"""Operators that read and write at positions given by other tensors. Positions below zero count from the end."""

from __future__ import annotations

import torch

from .registry import Tensor, operator


@operator("gather")
def gather(
    x: Tensor, indices: Tensor, axis: Tensor, batch_dims: Tensor | None = None,
    validate_indices: Tensor | None = None,
) -> Tensor:  # fmt: skip
    along, shared = int(axis) % x.ndim, 0 if batch_dims is None else int(batch_dims)
    if shared:
        rows, places = x.flatten(0, shared - 1), indices.flatten(0, shared - 1)
        taken = [_taken(row, place, along - shared) for row, place in zip(rows, places, strict=True)]
        return torch.stack(taken).reshape(*x.shape[:shared], *taken[0].shape)
    return _taken(x, indices, along)


def _taken(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    taken = x.index_select(axis, _positive(indices, x.shape[axis]).reshape(-1))
    return taken.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


def _positive(indices: Tensor, size: int) -> Tensor:
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


@operator("gather_along_axis")
def gather_along_axis(x: Tensor, indices: Tensor, axis: Tensor, validate_indices: Tensor | None = None) -> Tensor:
    return x.take_along_dim(_positive(indices, x.shape[int(axis)]), int(axis))


@operator("gather_nd")
def gather_nd(
    x: Tensor, indices: Tensor, batch_dims: Tensor | None = None, validate_indices: Tensor | None = None
) -> Tensor:
    shared = 0 if batch_dims is None else int(batch_dims)
    if not shared:
        return x[_coordinates(indices, x)]
    rows, places = x.flatten(0, shared - 1), indices.flatten(0, shared - 1)
    taken = [row[_coordinates(place, row)] for row, place in zip(rows, places, strict=True)]
    return torch.stack(taken).reshape(*x.shape[:shared], *taken[0].shape)


def _coordinates(indices: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    return tuple(_positive(part, x.shape[axis]) for axis, part in enumerate(indices.unbind(-1)))


# --------------------------------------------------------------------------------------- writing


@operator("scatter")
def scatter(
    data: Tensor, indices: Tensor, updates: Tensor, axis: Tensor, mode: str, validate_indices: Tensor | None = None
) -> Tensor:
    along = int(axis) % data.ndim
    places = torch.arange(data.numel()).reshape(data.shape)
    return _written(data, _taken(places, indices, along), updates, mode)


@operator("scatter_along_axis")
def scatter_along_axis(
    data: Tensor, indices: Tensor, updates: Tensor, axis: Tensor, mode: str, validate_indices: Tensor | None = None
) -> Tensor:
    places = torch.arange(data.numel()).reshape(data.shape)
    chosen = torch.gather(places, int(axis), _positive(indices, data.shape[int(axis)]))
    return _written(data, chosen, updates, mode)


@operator("scatter_nd")
def scatter_nd(
    data: Tensor, indices: Tensor, updates: Tensor, mode: str, validate_indices: Tensor | None = None
) -> Tensor:
    places = torch.arange(data.numel()).reshape(data.shape)
    return _written(data, places[_coordinates(indices, data)], updates, mode)


def _written(data: Tensor, places: Tensor, updates: Tensor, mode: str) -> Tensor:
    """`data` with `updates` written to its flat positions `places`; several to one place are combined in turn."""
    flat, at = data.reshape(-1).clone(), places.reshape(-1)
    values = updates.to(data.dtype).expand(places.shape).reshape(-1)
    if mode in ("add", "sub"):
        flat.index_add_(0, at, values, alpha=1 if mode == "add" else -1)
    elif mode in ("mul", "div"):
        flat.index_reduce_(0, at, values if mode == "mul" else 1 / values, "prod")
    elif mode in ("max", "min"):
        flat.index_reduce_(0, at, values, f"a{mode}")
    else:
        flat[at] = values
    return flat.reshape(data.shape)


# --------------------------------------------------------------------------------------- positions


@operator("non_zero")
def non_zero(x: Tensor) -> Tensor:
    return x.nonzero()


@operator("one_hot")
def one_hot(
    indices: Tensor, one_hot_vector_size: Tensor, axis: Tensor, on_value: Tensor, off_value: Tensor
) -> Tensor:
    size, along = int(one_hot_vector_size), int(axis)
    hot = _positive(indices, size).unsqueeze(-1) == torch.arange(size)
    return torch.where(hot, on_value, off_value).movedim(-1, along)
