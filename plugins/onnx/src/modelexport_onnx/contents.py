"""What an ONNX model says: its opset, types and precision, its nodes, and where in the user's model they are from.

A model is an `onnx.ModelProto`, which may be without the weights that lie beside its file.
"""

from __future__ import annotations

import ast
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from modelexport.contract import TensorSpec
from modelexport.errors import ArtifactError
from modelexport.toolkit import innermost_line, size_in_file

#: the domains of ONNX's own operators
STANDARD = ("", "ai.onnx")

#: operators that only a quantized graph has
QUANTIZED = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "MatMulNBits",
    "QLinearConv", "QLinearMatMul", "QAttention", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QGemm",
    "GatherBlockQuantized",
}  # fmt: skip

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

#: types of quantized values, the narrowest first
_NARROW = ("nvfp4", "int4", "fp8", "int8")


# --------------------------------------------------------------------------------------- nodes


def nodes(model: Any) -> Iterator[Any]:
    """Every node, those within branches and loops too."""
    return _nodes(model.graph)


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for inner in inner_graphs(node):
            yield from _nodes(inner)


def inner_graphs(node: Any) -> Iterator[Any]:
    """The graphs that a node holds as branches or as its body."""
    for attribute in node.attribute:
        yield from (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs


def foreign(model: Any) -> Iterator[Any]:
    """Nodes of other domains than ONNX's own, which the file doesn't define either."""
    defined = {(function.domain, function.name) for function in model.functions}
    for node in nodes(model):
        if node.domain not in STANDARD and (node.domain, node.op_type) not in defined:
            yield node


def operators(model: Any) -> dict[str, int]:
    """How many nodes of each operator the main graph has."""
    return dict(sorted(Counter(node.op_type for node in model.graph.node).items()))


def is_quantized(model: Any, original: Any) -> bool:
    """Whether a copy of `original`, which isn't quantized, computes or stores anything in fewer bits.

    Other operators alone say nothing: ONNX Runtime's quantizers write a Gemm as MatMul and Add in any case.
    """
    has_operators = any(node.op_type in QUANTIZED for node in nodes(model))
    return has_operators or bool(stored_narrow(model) - stored_narrow(original))


def refuse_quantized(model: Any) -> None:
    """Raise ArtifactError for a model that is quantized already."""
    if kinds := sorted({node.op_type for node in nodes(model)} & QUANTIZED):
        raise ArtifactError(
            f"the model is quantized already: it has {', '.join(kinds)}", "quantize the floating-point model"
        )


def stored_narrow(model: Any) -> set[str]:
    """The weights that are stored as integers of 8 bits or fewer, or in float8, by their names."""
    return {tensor.name for tensor in model.graph.initializer if tensor.data_type in _narrow_types()}


def _narrow_types() -> set[int]:
    from onnx import TensorProto

    names = ("INT8", "UINT8", "INT4", "UINT4", "FLOAT8E4M3FN")
    return {TensorProto.DataType.Value(name) for name in names}


# --------------------------------------------------------------------------------------- types


def opset(model: Any) -> int:
    """The version of ONNX's own operators; 0 where the model imports none."""
    return next((entry.version for entry in model.opset_import if entry.domain in STANDARD), 0)


def outputs(model: Any) -> tuple[TensorSpec, ...]:
    """The outputs as the file declares them; a size that it leaves open is a Dim."""
    return tuple(_spec(value) for value in model.graph.output)


def _spec(value: Any) -> TensorSpec:
    tensor = value.type.tensor_type
    sizes = [size.dim_value if size.HasField("dim_value") else size.dim_param for size in tensor.shape.dim]
    shape = tuple(size_in_file(size, value.name, axis) for axis, size in enumerate(sizes))
    return TensorSpec(value.name, dtype(tensor.elem_type), shape)


def dtype(number: int) -> str:
    """The name of one of ONNX's types, as in numpy where numpy has it."""
    from onnx import TensorProto

    name = TensorProto.DataType.Name(number)
    return _DTYPES.get(name) or str(name).lower()


def types(model: Any) -> set[str]:
    """The types of a model's weights, casts, inputs and outputs."""
    names = {dtype(tensor.data_type) for tensor in _tensors(model)}
    names |= {dtype(value.type.tensor_type.elem_type) for value in (*model.graph.input, *model.graph.output)}
    for node in nodes(model):
        names |= {dtype(a.i) for a in node.attribute if a.name in ("to", "output_dtype") and a.i}
    return names


def precision(model: Any) -> str:
    """What a model computes in: the type of its quantized values, else the one most of its weights have."""
    if any(node.op_type in QUANTIZED for node in nodes(model)):
        stored = types(model)
        return next((name for name in _NARROW if name in stored), "int8")
    sizes: Counter[str] = Counter()
    for tensor in _tensors(model):
        sizes[dtype(tensor.data_type)] += math.prod(tensor.dims)
    kept = {name: size for name, size in sizes.items() if "float" in name}
    return max(kept, key=kept.__getitem__, default="float32")


def _tensors(model: Any) -> Iterator[Any]:
    yield from model.graph.initializer
    for node in nodes(model):
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


# --------------------------------------------------------------------------------------- where nodes come from


def origin(node: Any) -> str:
    """The module of the user's model that a node comes from, as torch.onnx notes it; empty where it is unknown."""
    noted = _notes(node).get("pkg.torch.onnx.name_scopes", "[]")
    try:
        scopes = [scope for scope in ast.literal_eval(noted)[:-1] if isinstance(scope, str) and scope]
    except (ValueError, SyntaxError, TypeError):
        return ""  # somebody else's note
    return scopes[-1] if scopes else ""


def place(node: Any) -> str:
    """Module and source line that a node comes from, as torch.onnx notes them; empty where they are unknown."""
    line = innermost_line(_notes(node).get("pkg.torch.onnx.stack_trace", ""))
    return ", ".join(part for part in (origin(node), line) if part)


def _notes(node: Any) -> dict[str, str]:
    return {item.key: item.value for item in node.metadata_props}


def keep_origins(original: Any, model: Any) -> None:
    """Give nodes of `model` the note where they come from, if they lost it: what `original` says of namesakes."""
    origins = {node.name: node.metadata_props for node in original.graph.node if node.name}
    for node in model.graph.node:
        if not node.metadata_props and node.name in origins:
            node.metadata_props.extend(origins[node.name])
