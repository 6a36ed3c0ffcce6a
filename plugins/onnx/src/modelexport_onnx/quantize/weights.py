"""Weights in 8 bits that are computed in float32: embeddings row by row, others behind a DequantizeLinear."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .. import graph
from ..graph import Graph

if TYPE_CHECKING:
    from modelexport.contract import Array

#: tables and weights of fewer elements are left as they are: nothing would be saved
SMALL = 1024


def quantize_rows(model: Any, skip: Iterable[str] = ()) -> list[str]:
    """Store embedding tables in 8 bits, each row with a scale of its own; rows are dequantized after the lookup.

    ONNX Runtime's own quantization of Gather has one scale for the table, which costs the most of all layers.
    Returns the names of the nodes that were replaced.
    """
    import numpy as np
    from onnx import helper

    layers, done, left, tables = Graph(model), [], set(skip), set()
    for node in layers.embeddings():
        table, index = node.input
        if node.name in left or np.prod(layers.initializers[table].dims) < SMALL:
            continue
        if f"{table}_rows" not in {tensor.name for tensor in model.graph.initializer}:
            _store_rows(model, table, layers.weight(table))
        parts = [f"{node.output[0]}_{part}" for part in ("rows", "float", "scales")]
        nodes = [
            helper.make_node("Gather", [f"{table}_rows", index], [parts[0]], name=f"{node.name}_rows", axis=0),
            helper.make_node("Cast", [parts[0]], [parts[1]], name=f"{node.name}_float", to=1),
            helper.make_node("Gather", [f"{table}_scales", index], [parts[2]], name=f"{node.name}_scales", axis=0),
            helper.make_node("Mul", [parts[1], parts[2]], [node.output[0]], name=f"{node.name}_scaled"),
        ]
        tables.add(table)
        done.append(node.name)
        graph.replace_node(model, node, nodes)
    graph.drop_unused(model, tables)
    return done


def _store_rows(model: Any, table: str, weight: Array) -> None:
    import numpy as np
    from onnx import numpy_helper

    scale = np.maximum(np.abs(weight).max(1, keepdims=True) / 127, np.finfo(np.float32).tiny)
    rows = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
    model.graph.initializer.append(numpy_helper.from_array(rows, f"{table}_rows"))
    model.graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{table}_scales"))


def fold(model: Any, skip: Iterable[str] = (), kinds: Iterable[str] | None = None) -> list[str]:
    """Store weights in 8 bits, one scale a channel, behind a DequantizeLinear that is folded as a session loads.

    So the file is a quarter of its size, and everything is computed in float32, as fast as before. Returns the
    names of the layers whose weights these are.
    """
    import numpy as np

    layers, done, left, stored = Graph(model), [], set(skip), dict[str, Any]()
    for node, index, axis in layers.weighted():
        name = node.input[index]
        small = np.prod(layers.initializers[name].dims) < SMALL
        if node.name in left or small or (kinds is not None and node.op_type not in kinds):
            continue
        done.append(node.name)
        if name not in stored:
            stored[name] = _store_channels(model, name, layers.weight(name), axis)
        node.input[index] = stored[name].output[0]
    for dequantize in reversed(stored.values()):
        model.graph.node.insert(0, dequantize)
    graph.drop_unused(model, stored)
    return list(dict.fromkeys(done))


def _store_channels(model: Any, name: str, weight: Array, axis: int) -> Any:
    """Store a weight with a scale for each channel; returns the node that dequantizes it."""
    import numpy as np
    from onnx import helper, numpy_helper

    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(others) / 127, np.finfo(np.float32).tiny).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    codes = np.clip(np.rint(weight / scale.reshape(shape)), -127, 127).astype(np.int8)
    model.graph.initializer.append(numpy_helper.from_array(codes, f"{name}_int8"))
    model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
    inputs, output = [f"{name}_int8", f"{name}_scale"], f"{name}_dequantized"
    return helper.make_node("DequantizeLinear", inputs, [output], name=f"{name}_dequantize", axis=axis)


def weight_ranges(layers: Graph) -> Mapping[str, tuple[float, float]]:
    """Smallest and largest element of each layer's first weight."""
    ranges: dict[str, tuple[float, float]] = {}
    for node, index, _ in layers.weighted():
        weight = layers.weight(node.input[index])
        ranges.setdefault(node.name, (float(weight.min()), float(weight.max())))
    return ranges
