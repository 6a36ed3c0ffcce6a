"""int4: weights of matrix products in blocks along their inputs, each with a scale; activations as they are.

There are no zero points, as TensorRT wants it: a weight is between -8 and 7 times its block's scale. The scale is
the one with the smallest squared error: cutting off a block's largest weight may serve its many small ones better.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from modelexport.errors import ConversionError

from ..graph import Graph, upgraded
from .explicit import Writer

if TYPE_CHECKING:
    from modelexport.contract import Array

#: the smallest and the largest number
LEAST, LARGEST = -8, 7

#: scales that are tried, relative to the one that has room for the largest weight of a block
RATIOS = (1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.76, 0.72, 0.68)

#: ONNX's DequantizeLinear has blocks and int4 from this opset on
OPSET = 21

#: a weight of fewer elements is left as it is: nothing would be saved
SMALL = 4096


def write(model: Any, left: Collection[str], size: int) -> Any:
    """`model` with the weights of every MatMul but those `left` in blocks of `size`, where they fit.

    Raises ConversionError for a model that has no weights to be stored so.
    """
    from onnx import TensorProto

    check_fits(model, size)
    model = upgraded(model, OPSET)
    layers, writer = Graph(model), Writer(model)
    skipped = {*unfit(model, size), *left}
    for node, index, _ in layers.weighted():
        name = node.input[index]
        if node.name in skipped:
            continue
        output = f"{name}_int4_dequantized"
        if not writer.has(output):
            codes, scales = rounded(layers.weight(name), size)
            inputs = [writer.constant(f"{name}_int4", codes, TensorProto.INT4)]
            inputs.append(writer.constant(f"{name}_int4_scale", scales))
            writer.node("DequantizeLinear", inputs, output, axis=0, block_size=size)
        node.input[index] = output
    return writer.finish()


def unfit(model: Any, size: int) -> dict[str, str]:
    """Why the weights of some of the model's layers can't be stored in blocks of `size`, by node."""
    layers = Graph(model)
    whys = {
        node.name: _reason(node.op_type, list(layers.initializers[node.input[index]].dims), size)
        for node, index, _ in layers.weighted()
    }
    return {name: why for name, why in whys.items() if why}


def check_fits(model: Any, size: int) -> None:
    """Raise ConversionError for a model that has no weights to be stored in blocks of `size`."""
    whys = unfit(model, size)
    if all(node.name in whys for node, *_ in Graph(model).weighted()):
        example = "; ".join(f"{name}: {why}" for name, why in list(whys.items())[:1])
        raise ConversionError(
            f"nothing of the model can be int4 in blocks of {size}, which takes products with constant matrices"
            + (f" ({example})" if example else ""),
            "give -k block-size=64, or another precision",
        )


def _reason(kind: str, dims: Sequence[int], size: int) -> str:
    if kind != "MatMul":
        return f"{kind} has no weights in blocks"
    if len(dims) != 2:
        return f"its weight has {len(dims)} dims"
    if dims[0] % size:
        return f"its {dims[0]} inputs are no multiple of block-size={size}"
    return "its weight is small" if dims[0] * dims[1] < SMALL else ""


def rounded(weight: Array, size: int) -> tuple[Array, Array]:
    """The codes of a weight of (inputs, outputs), and the scales of its blocks: (inputs / size, outputs)."""
    import numpy as np

    blocks = weight.reshape(-1, size, weight.shape[1])
    whole = np.abs(blocks).max(1, keepdims=True) / LARGEST
    whole = np.where(whole == 0, 1, whole).astype(np.float32)
    best, least = whole, np.full_like(whole, np.inf)
    for ratio in RATIOS:
        scales = whole * np.float32(ratio)
        errors = ((_codes(blocks, scales) * scales - blocks) ** 2).sum(1, keepdims=True)
        best, least = np.where(errors < least, scales, best), np.minimum(errors, least)
    return _codes(blocks, best).reshape(weight.shape).astype(np.int8), best[:, 0]


def _codes(blocks: Array, scales: Array) -> Array:
    import numpy as np

    return np.asarray(np.clip(np.rint(blocks / scales), LEAST, LARGEST))
