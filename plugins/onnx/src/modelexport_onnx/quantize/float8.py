"""float8 (E4M3): weights and activations of matrix products and convolutions, each tensor with one scale.

The scale puts the largest magnitude seen on the largest number of the type, 448. Weights are stored in float8;
activations pass a QuantizeLinear and a DequantizeLinear, which TensorRT fuses into the product.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ..graph import Graph, upgraded
from .explicit import Writer

if TYPE_CHECKING:
    from modelexport.contract import Array

#: the largest finite number of E4M3
LARGEST = 448.0

#: ONNX's QuantizeLinear has float8, with scales in half precision, from this opset on
OPSET = 19

#: what is quantized
OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def write(model: Any, left: Collection[str], ranges: Any) -> Any:
    """`model` with every weighted layer but those `left` in float8; `ranges` are the calibrated ones."""
    model = upgraded(model, OPSET)
    layers, writer = Graph(model), Writer(model)
    for node, index, _ in layers.weighted():
        activation, weight = node.input[0], node.input[index]
        if node.op_type not in OPERATORS or node.name in left or activation not in ranges:
            continue
        low, high = ranges[activation].range_value
        largest = float(max(abs(low).max(), abs(high).max()))
        node.input[index] = _weight(writer, weight, layers.weight(weight))
        node.input[0] = _activation(writer, activation, largest)
    return writer.finish()


def scale_of(largest: float) -> Array:
    """The scale of a tensor whose largest magnitude is `largest`, in float32; 1 for one that holds only zeros."""
    import numpy as np

    return np.array(largest / LARGEST if largest > 0 else 1.0, np.float32)


def rounded(weight: Array, scale: Array) -> Array:
    """`weight / scale` in float8, to the nearest, ties to even; beyond the range, the largest number."""
    import ml_dtypes
    import numpy as np

    return np.clip(weight / scale, -LARGEST, LARGEST).astype(ml_dtypes.float8_e4m3fn)


def _activation(writer: Writer, name: str, largest: float) -> str:
    output = f"{name}_fp8_dequantized"
    if not writer.has(output):
        scale, zero = writer.constant(f"{name}_fp8_scale", scale_of(largest)), _zero(writer)
        quantized = writer.node("QuantizeLinear", [name, scale, zero], f"{name}_fp8")
        writer.node("DequantizeLinear", [quantized, scale, zero], output)
    return output


def _weight(writer: Writer, name: str, weight: Array) -> str:
    output = f"{name}_fp8_dequantized"
    if not writer.has(output):
        import numpy as np

        scale = scale_of(float(np.abs(weight).max(initial=0.0)))
        values = writer.constant(f"{name}_fp8", rounded(weight, scale))
        inputs = [values, writer.constant(f"{name}_fp8_scale", scale), _zero(writer)]
        writer.node("DequantizeLinear", inputs, output)
    return output


def _zero(writer: Writer) -> str:
    """A zero point says which type a QuantizeLinear gives; no other number is one here."""
    import ml_dtypes
    import numpy as np

    return writer.constant("fp8_zero", np.zeros((), ml_dtypes.float8_e4m3fn))
