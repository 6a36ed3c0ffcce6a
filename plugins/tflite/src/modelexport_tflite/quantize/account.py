"""What became of each layer, read from the finished file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from modelexport.contract import QuantizedLayer
from modelexport.errors import ConversionError

from .. import files, naming
from .attempt import Work

#: what the quantizer appends to the names of tensors
_SUFFIXES = ("_dequant", "_quantized")


def layers(work: Work, copied: Any, left: Collection[str]) -> tuple[QuantizedLayer, ...]:
    """Every layer of the artifact, with the precision that it has in `copied`, the finished file.

    `left` are the operators that a search left out. Raises ConversionError where nothing was quantized.
    """
    precisions = dict(_precisions(copied))
    if not precisions:
        raise ConversionError(
            f"nothing of the model can be quantized in mode {work.mode}", "try another -k mode=, or exclude less"
        )
    return tuple(
        _layer(work, name, layer, precisions.get(name, "float32"), left) for name, layer in work.layers.items()
    )


def _layer(work: Work, name: str, layer: naming.Layer, precision: str, left: Collection[str]) -> QuantizedLayer:
    weight = layer.weight
    return QuantizedLayer(
        name,
        layer.kind,
        precision,
        weight_range=(float(weight.min()), float(weight.max())) if weight.size else None,
        activation_range=_range(work, name),
        bytes_saved=0 if precision == "float32" else int(weight.nbytes * (1 - _bits(precision) / 32)),
        note=_note(work, name, precision, left),
    )


def _note(work: Work, name: str, precision: str, left: Collection[str]) -> str:
    if name in work.excluded:
        return "excluded"
    if name in left:
        static = work.mode == "static"
        return "its calibrated ranges lose most: they are left out" if static else "it loses most: it is left out"
    return "ai-edge-quantizer has no such form of this operator" if precision == "float32" else ""


def _bits(precision: str) -> int:
    return next(bits for name, bits in (("float16", 16), ("int4", 4), ("int8", 8)) if name in precision)


def _range(work: Work, name: str) -> tuple[float, float] | None:
    """What the layer's input lay between over the samples; None where nothing was calibrated."""
    import numpy as np

    operator = work.operators[name]
    tensor = work.model.subgraphs[0].tensors[operator.inputs[0]].name.decode()
    seen = work.ranges.get(tensor, {})
    return (float(np.min(seen["min"])), float(np.max(seen["max"]))) if "min" in seen else None


# --------------------------------------------------------------------------------------- precisions


def _precisions(model: Any) -> Iterator[tuple[str, str]]:
    """(operator, what it computes in), for those of the first signature that hold or take fewer bits."""
    graph = model.subgraphs[0]
    kinds = [files.operator_name(model, operator) for operator in graph.operators]
    restored = {
        operator.outputs[0]: operator.inputs[0]
        for kind, operator in zip(kinds, graph.operators, strict=True)
        if kind == "DEQUANTIZE"
    }
    for kind, operator in zip(kinds, graph.operators, strict=True):
        if kind in ("DEQUANTIZE", "QUANTIZE"):
            continue
        weights, activations = _narrow(model, graph, operator, restored)
        if activations or weights:
            name = _own_name(graph.tensors[operator.outputs[0]].name.decode())
            yield name, "int8" if activations else f"{min(weights)} weights"


def _narrow(model: Any, graph: Any, operator: Any, restored: Mapping[int, int]) -> tuple[set[str], set[str]]:
    """The dtypes below 32 bits of the operator's weights, and of the activations that it takes as they are.

    `restored` says of tensors that a file restores to float32 which tensor they are restored from.
    """
    weights, activations = set(), set()
    for index in (index for index in operator.inputs if index >= 0):
        tensor = graph.tensors[restored.get(index, index)]
        dtype = files.dtype(tensor)
        if dtype not in ("int8", "int4", "float16"):
            continue
        data = model.buffers[tensor.buffer].data
        if data is not None and len(data):
            weights.add(dtype)
        elif index not in restored:
            activations.add(dtype)
    return weights, activations


def _own_name(name: str) -> str:
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name
