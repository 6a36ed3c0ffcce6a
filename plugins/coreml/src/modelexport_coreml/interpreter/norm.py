"""Normalizations."""

from __future__ import annotations

from torch.nn import functional as F

from .registry import Tensor, axes_of, channels, operator


@operator("batch_norm")
def batch_norm(
    x: Tensor, mean: Tensor, variance: Tensor, epsilon: Tensor, gamma: Tensor | None = None,
    beta: Tensor | None = None,
) -> Tensor:  # fmt: skip
    return F.batch_norm(x, mean, variance, gamma, beta, eps=float(epsilon))


@operator("instance_norm")
def instance_norm(x: Tensor, epsilon: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None) -> Tensor:
    return _scaled(_normalized(x, list(range(2, x.ndim)), epsilon), gamma, beta, x.ndim)


@operator("layer_norm")
def layer_norm(
    x: Tensor, epsilon: Tensor, axes: Tensor | None = None, gamma: Tensor | None = None, beta: Tensor | None = None
) -> Tensor:
    normalized = _normalized(x, axes_of(axes, x.ndim), epsilon)
    return (normalized if gamma is None else normalized * gamma) + (0 if beta is None else beta)


@operator("l2_norm")
def l2_norm(x: Tensor, epsilon: Tensor) -> Tensor:
    return x / (x.square().sum((-3, -2, -1), keepdim=True) + epsilon).sqrt()


@operator("local_response_norm")
def local_response_norm(x: Tensor, size: Tensor, alpha: Tensor, beta: Tensor, k: Tensor) -> Tensor:
    return F.local_response_norm(x, int(size), float(alpha), float(beta), float(k))


def _normalized(x: Tensor, axes: list[int], epsilon: Tensor) -> Tensor:
    away = x - x.mean(axes, keepdim=True)
    return away / (away.square().mean(axes, keepdim=True) + epsilon).sqrt()


def _scaled(x: Tensor, gamma: Tensor | None, beta: Tensor | None, rank: int) -> Tensor:
    scaled = x if gamma is None else x * channels(gamma, rank)
    return scaled if beta is None else scaled + channels(beta, rank)
