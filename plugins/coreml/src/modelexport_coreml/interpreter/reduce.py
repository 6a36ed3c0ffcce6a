"""Operators that make one value of many: sums, extremes, norms, positions."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .registry import OPERATORS, Tensor, axes_of, operator


def _prod(x: Tensor, axes: list[int], keepdim: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keepdim)
    return x


_REDUCE: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "reduce_mean": lambda x, axes, keep: x.float().mean(axes, keepdim=keep),
    "reduce_max": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "reduce_min": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "reduce_prod": _prod,
    "reduce_l1_norm": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "reduce_l2_norm": lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt(),
    "reduce_log_sum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "reduce_log_sum_exp": lambda x, axes, keep: x.logsumexp(axes, keepdim=keep),
    "reduce_sum_square": lambda x, axes, keep: x.square().sum(axes, keepdim=keep),
}


def _reducer(function: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[..., Tensor]:
    def reduce(x: Tensor, keep_dims: Tensor, axes: Tensor | None = None) -> Tensor:
        along = axes_of(axes, x.ndim)
        return function(x, along, bool(keep_dims)) if along else x

    return reduce


OPERATORS.update({name: _reducer(function) for name, function in _REDUCE.items()})


@operator("reduce_argmax")
def reduce_argmax(x: Tensor, axis: Tensor, keep_dims: Tensor, output_dtype: str = "int32") -> Tensor:
    return x.argmax(int(axis), keepdim=bool(keep_dims))


@operator("reduce_argmin")
def reduce_argmin(x: Tensor, axis: Tensor, keep_dims: Tensor, output_dtype: str = "int32") -> Tensor:
    return x.argmin(int(axis), keepdim=bool(keep_dims))


@operator("cumsum")
def cumsum(x: Tensor, axis: Tensor, exclusive: Tensor, reverse: Tensor) -> Tensor:
    along = int(axis)
    x = x.flip(along) if reverse else x
    sums = x.cumsum(along) - (x if exclusive else 0)
    return sums.flip(along) if reverse else sums


@operator("argsort")
def argsort(x: Tensor, axis: Tensor, ascending: Tensor) -> Tensor:
    return x.argsort(dim=int(axis), descending=not ascending, stable=True)


@operator("topk")
def topk(
    x: Tensor, k: Tensor, axis: Tensor, ascending: Tensor, sort: Tensor | None = None,
    return_indices: Tensor | None = None, output_indices_dtype: str = "int32",
) -> tuple[Tensor, ...]:  # fmt: skip
    """The extreme values, best first; of equal ones the first."""
    values, indices = torch.sort(x, dim=int(axis), descending=not ascending, stable=True)
    values, indices = values.narrow(int(axis), 0, int(k)), indices.narrow(int(axis), 0, int(k))
    return (values, indices) if return_indices is None or return_indices else (values,)
