"""What the tensors of a quantized layer mean, read from the formats' definitions and from nothing else.

A layer multiplies `Q(x · pre_quant_scale)` with its weight. Q is what the format does to activations:

    FP8                  weight e4m3 · weight_scale; Q: e4m3 on input_scale
    W8A8_SQ_PER_CHANNEL  weight int8 · weight_scale[row]; Q: int8 on input_scale
    W4A16_AWQ            two rows a byte, the even one in the low nibble, · weight_scale[row, group]; no Q
    NVFP4                two columns a byte, the even one in the low nibble, each e2m1, · weight_scale[row, block]
                         (e4m3) · weight_scale_2; Q: e2m1 in blocks of 16, whose scales are e4m3 on input_scale

ModelOpt writes these; here is the independent reading that its files are checked by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from modelexport.errors import RuntimeFailure

#: the largest value of e4m3, and of e2m1
E4M3, E2M1 = 448.0, 6.0

#: what the eight codes of e2m1 without a sign stand for, and the points halfway between two of them
_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_HALFWAY = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)

#: values that share a scale in NVFP4
BLOCK = 16

Change = Callable[[Any], Any]


@dataclass(frozen=True)
class Layer:
    """A quantized layer: its weight as float32, [out, in], and what becomes of its input, [..., in]."""

    weight: Any
    enter: Change | None = None


def names(tensors: Mapping[str, Any]) -> list[str]:
    """The layers of a checkpoint that are quantized."""
    ending = ".weight_scale"
    return [name.removesuffix(ending) for name in tensors if name.endswith(ending)]


def layer(tensors: Mapping[str, Any], name: str, algorithm: str) -> Layer:
    """The layer called `name`. Raises RuntimeFailure for an unknown format, or tensors that don't fit it."""
    reader = _READERS.get(algorithm)
    if reader is None:
        raise RuntimeFailure(
            f"the checkpoint is quantized as {algorithm}, which is not known here", f"known: {', '.join(_READERS)}"
        )
    prefix = f"{name}."
    own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    try:
        read = reader(own)
    except (KeyError, RuntimeError) as error:
        raise RuntimeFailure(
            f"layer {name} is no {algorithm} layer: {type(error).__name__}: {error}", "make the checkpoint again"
        ) from error
    return Layer(read.weight, _after(own.get("pre_quant_scale"), read.enter))


def _after(factor: Any, enter: Change | None) -> Change | None:
    """The input times `factor`, and then as the format has it."""
    if factor is None:
        return enter
    factor = factor.float()
    return (lambda x: enter(x * factor)) if enter is not None else (lambda x: x * factor)


def e4m3(values: Any, scale: Any) -> Any:
    """`values` as e4m3 on `scale` shows them: the largest value stands for all beyond it."""
    import torch

    return (values / scale).clamp(-E4M3, E4M3).to(torch.float8_e4m3fn).to(values.dtype) * scale


def _fp8(own: Mapping[str, Any]) -> Layer:
    scale = own["input_scale"].float()
    return Layer(own["weight"].float() * own["weight_scale"].float(), lambda x: e4m3(x, scale))


def _int8(own: Mapping[str, Any]) -> Layer:
    scale = own["input_scale"].float()
    weight = own["weight"].float() * own["weight_scale"].float()[:, None]
    return Layer(weight, lambda x: (x / scale).round().clamp(-128, 127) * scale)


def _int4(own: Mapping[str, Any]) -> Layer:
    """Nibbles are numbers of two's complement: 8 to 15 are -8 to -1."""
    import torch

    packed, scale = own["weight"].int(), own["weight_scale"].float()
    codes = torch.stack((packed & 15, packed >> 4), dim=1).reshape(2 * packed.shape[0], packed.shape[1])
    numbers = torch.where(codes > 7, codes - 16, codes).float()
    return Layer(numbers * scale.repeat_interleave(numbers.shape[1] // scale.shape[1], dim=1))


def _nvfp4(own: Mapping[str, Any]) -> Layer:
    import torch

    packed = own["weight"].long()
    codes = torch.stack((packed & 15, packed >> 4), dim=-1).reshape(packed.shape[0], 2 * packed.shape[1])
    values = torch.tensor((*_VALUES, *(-value for value in _VALUES)))
    scale = own["weight_scale"].float() * own["weight_scale_2"].float()
    outer = own["input_scale"].float()
    return Layer(values[codes] * scale.repeat_interleave(BLOCK, dim=1), lambda x: in_blocks(x, outer))


def in_blocks(x: Any, outer: Any) -> Any:
    """`x` as NVFP4 shows it: e2m1 in blocks of 16, the scale of a block being e4m3 on `outer`."""
    import torch

    blocks = x.reshape(*x.shape[:-1], -1, BLOCK)
    largest = blocks.abs().amax(dim=-1, keepdim=True)
    scale = e4m3(largest / E2M1, outer)
    scale = torch.where(scale == 0, 1.0, scale)
    return (_nearest(blocks / scale) * scale).reshape(x.shape)


def _nearest(x: Any) -> Any:
    """The nearest values of e2m1; halfway between two, the one with the even code."""
    import torch

    halfway = torch.tensor(_HALFWAY)
    size = x.abs()
    codes = torch.bucketize(size, halfway)
    tied = (codes < len(_HALFWAY)) & (size == halfway[codes.clamp(max=len(_HALFWAY) - 1)])
    return torch.tensor(_VALUES)[codes + (tied & (codes % 2 == 1))] * x.sign()


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Layer]] = {
    "FP8": _fp8,
    "W8A8_SQ_PER_CHANNEL": _int8,
    "W4A16_AWQ": _int4,
    "NVFP4": _nvfp4,
}
