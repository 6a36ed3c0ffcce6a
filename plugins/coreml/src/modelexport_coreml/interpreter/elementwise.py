"""Operators that compute every element by itself: arithmetic, comparisons, activations, casts."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .registry import OPERATORS, Tensor, channels, operator

_UNARY = {
    "abs": torch.abs, "acos": torch.acos, "asin": torch.asin, "atan": torch.atan, "atanh": torch.atanh,
    "ceil": torch.ceil, "cos": torch.cos, "cosh": torch.cosh, "erf": torch.erf, "exp": torch.exp,
    "exp2": torch.exp2, "floor": torch.floor, "logical_not": torch.logical_not, "relu": torch.relu,
    "relu6": F.relu6, "round": torch.round, "sigmoid": torch.sigmoid, "sign": torch.sign, "silu": F.silu,
    "sin": torch.sin, "sinh": torch.sinh, "softplus": F.softplus, "softsign": F.softsign, "sqrt": torch.sqrt,
    "square": torch.square, "tan": torch.tan, "tanh": torch.tanh, "identity": lambda x: x,
}  # fmt: skip
OPERATORS.update({name: lambda x, f=function: f(x) for name, function in _UNARY.items()})

_BINARY = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "pow": torch.pow, "maximum": torch.maximum,
    "minimum": torch.minimum, "mod": torch.remainder, "real_div": torch.true_divide, "equal": torch.eq,
    "not_equal": torch.ne, "greater": torch.gt, "greater_equal": torch.ge, "less": torch.lt,
    "less_equal": torch.le, "logical_and": torch.logical_and, "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor, "floor_div": torch.floor_divide,
}  # fmt: skip
OPERATORS.update({name: lambda x, y, f=function: f(x, y) for name, function in _BINARY.items()})


@operator("cast")
def cast(x: Tensor, dtype: str) -> Tensor:
    return x.bool() if dtype == "bool" else x.trunc() if x.is_floating_point() and "int" in dtype else x


@operator("select")
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(cond.bool(), a, b)


@operator("clip")
def clip(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return x.clamp(alpha, beta)


@operator("log")
def log(x: Tensor, epsilon: Tensor) -> Tensor:
    return torch.log(x + epsilon)


@operator("rsqrt")
def rsqrt(x: Tensor, epsilon: Tensor) -> Tensor:
    return torch.rsqrt(x + epsilon)


@operator("inverse")
def inverse(x: Tensor, epsilon: Tensor) -> Tensor:
    return torch.reciprocal(x + epsilon)


@operator("threshold")
def threshold(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.maximum(x, alpha)


@operator("thresholded_relu")
def thresholded_relu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x >= alpha, x, torch.zeros_like(x))


@operator("clamped_relu")
def clamped_relu(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return torch.where(x >= 0, x, alpha * x).clamp(max=beta)


@operator("elu")
def elu(x: Tensor, alpha: Tensor) -> Tensor:
    return F.elu(x, float(alpha))


@operator("leaky_relu")
def leaky_relu(x: Tensor, alpha: Tensor) -> Tensor:
    return F.leaky_relu(x, float(alpha))


@operator("prelu")
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    return torch.where(x >= 0, x, channels(alpha, x.ndim) * x)


@operator("gelu")
def gelu(x: Tensor, mode: str) -> Tensor:
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


@operator("linear_activation")
def linear_activation(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return alpha * x + beta


@operator("scaled_tanh")
def scaled_tanh(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return alpha * torch.tanh(beta * x)


@operator("sigmoid_hard")
def sigmoid_hard(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


@operator("softplus_parametric")
def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return channels(alpha, x.ndim) * F.softplus(channels(beta, x.ndim) * x)


@operator("softmax")
def softmax(x: Tensor, axis: Tensor) -> Tensor:
    return torch.softmax(x, int(axis))


@operator("quantize")
def quantize(
    input: Tensor, scale: Tensor, output_dtype: str, zero_point: Tensor | None = None, axis: Tensor | None = None
) -> Tensor:
    scale, zero_point = (_along(value, input, axis) for value in (scale, zero_point))
    low, high = (0, 255) if output_dtype == "uint8" else (-128, 127)
    rounded = torch.round(input / scale) + (0 if zero_point is None else zero_point)
    return rounded.clamp(low, high)


@operator("dequantize")
def dequantize(
    input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: Tensor | None = None
) -> Tensor:
    scale, zero_point = (_along(value, input, axis) for value in (scale, zero_point))
    return (input.float() - (0 if zero_point is None else zero_point)) * scale


def _along(value: Tensor | None, like: Tensor, axis: Tensor | None) -> Tensor | None:
    """A vector of one value for each index of an axis, shaped to go with `like`."""
    if value is None or value.ndim == 0 or axis is None:
        return value
    shape = [1] * like.ndim
    shape[int(axis)] = -1
    return value.reshape(shape)
