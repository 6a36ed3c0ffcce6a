"""What an ONNX file says: its tensors, the types that it computes in, and where its nodes come from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelexport.contract import Dim, TensorSpec
from modelexport.toolkit import innermost_line
from modelexport_onnx import modelfile

_DTYPES = {
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "FLOAT16": "float16",
    "BFLOAT16": "bfloat16",
    "FLOAT8E4M3FN": "fp8",
    "FLOAT4E2M1": "nvfp4",
    "INT4": "int4",
    "BOOL": "bool",
}

#: the domains of ONNX's own operators
STANDARD = ("", "ai.onnx")

#: types that say what a model computes in, the narrowest first
_COMPUTE = ("nvfp4", "int4", "fp8", "int8", "bfloat16", "float16")


def load_graph(path: Path) -> Any:
    """The `onnx.ModelProto` without its large weights."""
    return modelfile.load_graph(path)


def outputs(model: Any) -> tuple[TensorSpec, ...]:
    """The outputs as the file declares them; a size that it leaves open is a Dim."""
    return tuple(_spec(value) for value in model.graph.output)


def _spec(value: Any) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(
        size.dim_value if size.HasField("dim_value") else Dim(size.dim_param or f"{value.name}_{axis}")
        for axis, size in enumerate(tensor.shape.dim)
    )
    return TensorSpec(value.name, dtype(tensor.elem_type), shape)


def dtype(number: int) -> str:
    """The name of one of ONNX's types, as in numpy where numpy has it."""
    from onnx import TensorProto

    name = TensorProto.DataType.Name(number)
    return _DTYPES.get(name) or str(name).lower()


def types(model: Any) -> set[str]:
    """The types of a model's weights, casts, inputs and outputs."""
    found = {dtype(tensor.data_type) for tensor in _tensors(model)}
    found |= {dtype(value.type.tensor_type.elem_type) for value in (*model.graph.input, *model.graph.output)}
    for node in nodes(model):
        found |= {dtype(a.i) for a in node.attribute if a.name in ("to", "output_dtype") and a.i}
    return found


def precision(model: Any) -> str:
    """What a model computes in: the type of its quantized values, else the one most of its weights have."""
    quantized = any(node.op_type == "DequantizeLinear" for node in nodes(model))
    found = types(model)
    if quantized:
        return next((name for name in _COMPUTE[:4] if name in found), "int8")
    sizes: Counter[str] = Counter()
    for tensor in _tensors(model):
        sizes[dtype(tensor.data_type)] += math.prod(tensor.dims)
    kept = {name: size for name, size in sizes.items() if "float" in name}
    return max(kept, key=kept.__getitem__, default="float32")


def nodes(model: Any) -> Iterator[Any]:
    """Every node, those within branches and loops too."""
    yield from _nodes(model.graph)


def foreign(model: Any) -> Iterator[Any]:
    """Nodes of other domains than ONNX's own, which the file doesn't define either."""
    defined = {(function.domain, function.name) for function in model.functions}
    for node in nodes(model):
        if node.domain not in STANDARD and (node.domain, node.op_type) not in defined:
            yield node


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.type in (5, 10) else ():
                yield from _nodes(inner)


def _tensors(model: Any) -> Iterator[Any]:
    yield from model.graph.initializer
    for node in nodes(model):
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def place(node: Any) -> str:
    """Where in the user's model a node comes from, as torch.onnx notes it: module and source line, or nothing."""
    noted = {item.key: item.value for item in node.metadata_props}
    line = innermost_line(noted.get("pkg.torch.onnx.stack_trace", ""))
    return ", ".join(part for part in (modelfile.origin(node), line) if part)
