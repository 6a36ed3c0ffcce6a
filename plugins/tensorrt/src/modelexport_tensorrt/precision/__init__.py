"""Copies of an ONNX model at a lower precision: TensorRT's networks compute in the types that the model says.

halving.py  float16 and bfloat16, by casting
float8.py   weights and activations in float8, by calibrated scales
blocks.py   weights of matrix products in int4, in blocks
qdq.py      what the last two write: QuantizeLinear and DequantizeLinear
gate.py     the copy on ONNX Runtime, against golden data
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modelexport.errors import OptionError
from modelexport_onnx import modelfile

if TYPE_CHECKING:
    from modelexport.toolkit import GoldenCase

#: as the command line names it → as dtypes and budgets do
HALVES: Mapping[str, Literal["float16", "bfloat16"]] = {"fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Converted:
    """What became of a model: `precision` as budgets name it, `kept` why nodes stay at a higher one, by name,
    `counts` how many layers with weights have them in which type, `onnx` how the copy was verified."""

    precision: str
    kept: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    onnx: Mapping[str, Any] = field(default_factory=dict)


def converted(
    model_path: Path,
    out_path: Path,
    precision: str,
    cases: Sequence[GoldenCase],
    *,
    activations: str = "fp16",
    block_size: int = 128,
    tolerance: Mapping[str, float] | None = None,
) -> Converted:
    """Write the float32 model of `model_path` to `out_path` in fp16, bf16 or int4, and verify it on `cases`.

    int4 is of weights alone, in blocks of `block_size` inputs; the rest then computes in `activations`. Inputs and
    outputs keep their dtypes. Raises OptionError for what can't be, ConversionError where nothing of the model can
    have the precision, or where the copy computes something else.
    """
    from modelexport_onnx.quantization import graph

    from . import halving

    if precision not in (*HALVES, "int4"):
        raise OptionError(f"precision={precision} takes real inputs", "use `mx quantize` with --calibration")
    kept: dict[str, str] = {}
    settings: dict[str, Any] = {}
    if precision == "int4":
        model, kept = in_blocks(model_path, block_size)
        settings = {"block_size": block_size, "activations": activations}
    else:
        model = graph.load_float(model_path)
    name = HALVES.get(precision, precision)
    made, stays, verdict = halving.verified(
        model, HALVES.get(precision) or HALVES[activations], cases, name, tolerance
    )
    modelfile.save(made, out_path)
    return Converted(name, {**kept, **stays}, settings, counts(made), verdict.to_json())


def in_blocks(path: Path, size: int) -> tuple[Any, dict[str, str]]:
    """The model of `path` with its matrix products' weights in int4, and why those of others are not.

    Raises ConversionError where none are.
    """
    from modelexport_onnx.quantization import graph, rewrite

    from . import blocks, qdq

    check_block_size(size)
    model = graph.load(path)
    rewrite.split_gemm(model)
    model = qdq.upgraded(model, blocks.OPSET)
    kept = blocks.unfit(model, size)
    blocks.check_fits(model, size)
    blocks.write(model, (), size)
    return model, kept


def check_block_size(size: int) -> None:
    """Raise OptionError for blocks that TensorRT has no kernels for."""
    from . import blocks

    if size not in blocks.SIZES:
        raise OptionError(
            f"there are no blocks of {size}", f"block-size is one of {', '.join(map(str, blocks.SIZES))}"
        )


def counts(model: Any) -> dict[str, int]:
    """How many convolutions and matrix products have their weights in which type."""
    from onnx import TensorProto

    stored = {
        tensor.name: TensorProto.DataType.Name(tensor.data_type).lower() for tensor in model.graph.initializer
    }
    makers = {node.output[0]: node for node in model.graph.node if node.output}
    found: dict[str, int] = {}
    for node in model.graph.node:
        kind = ""
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            kind = _weight_type(node.input[1], stored, makers)
        if kind:
            found[kind] = found.get(kind, 0) + 1
    return found


def _weight_type(name: str, stored: Mapping[str, str], makers: Mapping[str, Any]) -> str:
    """The type of a stored weight, through the nodes that quantize it; empty for an activation."""
    kind = ""
    while name not in stored:
        maker = makers.get(name)
        if maker is None or maker.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            return ""
        if maker.op_type == "QuantizeLinear":
            kind = stored.get(maker.input[2], "uint8") if len(maker.input) > 2 else "uint8"
        name = maker.input[0]
    return kind or stored[name]
