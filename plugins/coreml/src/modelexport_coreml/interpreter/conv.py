"""Convolutions over one, two or three axes."""

from __future__ import annotations

from torch.nn import functional as F

from .registry import Tensor, flat_padding, ints, operator, paddings

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@operator("conv")
def conv(
    x: Tensor, weight: Tensor, strides: Tensor, pad_type: str, dilations: Tensor, groups: Tensor,
    pad: Tensor | None = None, bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    steps, spread = ints(strides), ints(dilations)
    pairs = paddings(pad_type, pad, x.shape[2:], _spans(weight, spread), steps)
    padded = F.pad(x, flat_padding(pairs)) if any(map(any, pairs)) else x
    return _CONV[len(steps)](padded, weight, bias, stride=steps, dilation=spread, groups=int(groups))


@operator("conv_transpose")
def conv_transpose(
    x: Tensor, weight: Tensor, strides: Tensor, pad_type: str, dilations: Tensor, groups: Tensor,
    pad: Tensor | None = None, bias: Tensor | None = None, output_shape: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The whole product, then what the padding crops off its ends."""
    steps, spread = ints(strides), ints(dilations)
    count = len(steps)
    whole = _TRANSPOSED[count](x, weight, bias, stride=steps, dilation=spread, groups=int(groups))
    if output_shape is not None:
        sizes = ints(output_shape)[-count:]
    else:
        sizes = [size * step for size, step in zip(x.shape[2:], steps, strict=True)]
    if pad_type == "custom":
        pairs = paddings(pad_type, pad, sizes, sizes, steps)
    elif pad_type == "valid":
        pairs = [(0, 0)] * count
    else:
        over = [have - want for have, want in zip(whole.shape[2:], sizes, strict=True)]
        pairs = [(total // 2, total - total // 2) for total in over]
    return F.pad(whole, [-item for item in flat_padding(pairs)])


def _spans(weight: Tensor, dilations: list[int]) -> list[int]:
    """What a kernel covers on each axis."""
    return [(size - 1) * step + 1 for size, step in zip(weight.shape[2:], dilations, strict=True)]
