"""A model's graph: its layers with weights, edits that keep it whole, and the values that its tensors take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from modelexport.errors import ConversionError, first_line

from . import backend, contents, session

if TYPE_CHECKING:
    from modelexport.contract import Array, Arrays

#: operator → which inputs are weights, and along which axis a weight has its output channels
WEIGHTS: Mapping[str, Mapping[int, int]] = {
    "Conv": {1: 0},
    "ConvTranspose": {1: 1},
    "MatMul": {1: -1},
    "Gemm": {1: 1},
    "LSTM": {1: 1, 2: 1},
    "GRU": {1: 1, 2: 1},
}


@dataclass(frozen=True)
class Layer:
    """One node with constant weights: `macs` is the number of multiply-accumulates for one sample."""

    name: str
    kind: str
    weight: str
    axis: int
    activation: str
    output: str
    macs: int


class Graph:
    """A model, and what is asked about it. Changing the model's weights or nodes in place is allowed."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @cached_property
    def initializers(self) -> dict[str, Any]:
        return {tensor.name: tensor for tensor in self.model.graph.initializer}

    def weight(self, name: str) -> Array:
        from onnx import numpy_helper

        array: Array = numpy_helper.to_array(self.initializers[name])
        return array

    def uses(self) -> Counter[str]:
        """How often each tensor is read, in branches and loops as well, and as an output."""
        return Counter([*_reads(self.model.graph), *(value.name for value in self.model.graph.output)])

    def weighted(self) -> list[tuple[Any, int, int]]:
        """Every node with a constant float weight of rank 2 or more: (node, input index, channel axis)."""
        layers = []
        for node in self.model.graph.node:
            for index, axis in WEIGHTS.get(node.op_type, {}).items():
                tensor = self.initializers.get(node.input[index]) if index < len(node.input) else None
                if tensor is not None and tensor.data_type == 1 and len(tensor.dims) >= 2:
                    transposed = node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
                    layers.append((node, index, 0 if transposed else axis % len(tensor.dims)))
        return layers

    def embeddings(self) -> list[Any]:
        """Gathers of rows from a constant float table."""
        gathers = []
        for node in self.model.graph.node:
            table = self.initializers.get(node.input[0]) if node.op_type == "Gather" else None
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            if table is not None and table.data_type == 1 and len(table.dims) == 2 and not axis:
                gathers.append(node)
        return gathers

    def layers(self, shapes: Mapping[str, Sequence[int]]) -> list[Layer]:
        """The layers with weights, at the shapes of one sample's tensors."""
        layers = []
        for node, index, axis in self.weighted():
            taken, written = shapes.get(node.input[0], ()), shapes.get(node.output[0], ())
            macs = _macs(node.op_type, self.initializers[node.input[index]].dims, axis, taken, written)
            layers.append(
                Layer(node.name, node.op_type, node.input[index], axis, node.input[0], node.output[0], macs)
            )
        return layers

    def weight_bytes(self) -> dict[str, int]:
        """The size of each layer's weights in float32, by its name."""
        sizes: dict[str, int] = {}
        for node, index, _ in self.weighted():
            sizes[node.name] = sizes.get(node.name, 0) + 4 * math.prod(self.initializers[node.input[index]].dims)
        for node in self.embeddings():
            sizes[node.name] = 4 * math.prod(self.initializers[node.input[0]].dims)
        return sizes


def _macs(kind: str, weight: Sequence[int], axis: int, taken: Sequence[int], written: Sequence[int]) -> int:
    """Multiply-accumulates of a layer whose weight has these dims; `taken` and `written` are shapes of tensors."""
    if kind in ("LSTM", "GRU"):
        return math.prod(weight) * math.prod(taken[:2])
    if kind == "ConvTranspose":
        return math.prod(taken) * math.prod(weight[1:])
    return math.prod(written) * (math.prod(weight) // max(weight[axis], 1))


def _reads(graph: Any) -> Iterator[str]:
    for node in graph.node:
        yield from _reads_of(node)


def _reads_of(node: Any) -> Iterator[str]:
    yield from (name for name in node.input if name)
    yield from reads_inside(node)


def reads_inside(node: Any) -> Iterator[str]:
    """Every name that the graphs inside a node read: more than the outer ones, which does no harm."""
    for inner in contents.inner_graphs(node):
        yield from _reads(inner)
        yield from (value.name for value in inner.output)


# --------------------------------------------------------------------------------------- edits


def copy(model: Any) -> Any:
    """A copy that shares nothing with the model."""
    import onnx

    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    return twin


def name_nodes(model: Any) -> None:
    """Give every node a name that no other node has: ONNX Runtime's quantizers know nodes by their names."""
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{index}"
        while name in taken:
            name = f"{name}_{index}"
        node.name = name
        taken.add(name)


def sort_nodes(model: Any) -> None:
    """Put every node behind those whose outputs it reads, in branches and loops as well."""
    from graphlib import TopologicalSorter

    nodes = list(model.graph.node)
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    before = {
        index: {makers[name] for name in _reads_of(node) if name in makers} - {index}
        for index, node in enumerate(nodes)
    }
    del model.graph.node[:]
    model.graph.node.extend(nodes[index] for index in TopologicalSorter(before).static_order())


def place_of(model: Any, name: str) -> int:
    """Where in the list of nodes the one called `name` is."""
    return next(place for place, node in enumerate(model.graph.node) if node.name == name)


def replace_node(model: Any, node: Any, others: Sequence[Any]) -> None:
    """Put `others` in the place of a node, found by its name."""
    place = place_of(model, node.name)
    del model.graph.node[place]
    for offset, other in enumerate(others):
        model.graph.node.insert(place + offset, other)


def drop_unused(model: Any, names: Iterable[str]) -> None:
    """Remove those of these initializers that nothing reads any more."""
    unused = set(names) - set(Graph(model).uses())
    for place in reversed([i for i, tensor in enumerate(model.graph.initializer) if tensor.name in unused]):
        del model.graph.initializer[place]


def upgraded(model: Any, opset: int) -> Any:
    """The model at `opset` of ONNX's own operators at least.

    Raises ConversionError where ONNX can't convert it.
    """
    import onnx

    current = contents.opset(model)
    if current >= opset:
        return model
    try:
        with backend.rewriting():
            converted = onnx.version_converter.convert_version(model, opset)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise ConversionError(
            f"the model's opset is {current}, this precision takes {opset}, and ONNX can't convert it: "
            f"{first_line(error)}",
            f"export it with -k onnx.opset={opset}, or at a newer opset where it was made",
        ) from error
    contents.keep_origins(model, converted)
    return converted


# --------------------------------------------------------------------------------------- types and values


def add_types(model: Any) -> None:
    """Write the type of every tensor into the model, as ONNX Runtime infers it, its own operators included."""
    import onnx

    weights = {tensor.name for tensor in model.graph.initializer}
    for place in reversed([i for i, value in enumerate(model.graph.value_info) if value.name in weights]):
        del model.graph.value_info[place]  # quantizers transpose a weight and keep its name
    known = {value.name for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)}
    names = [name for node in model.graph.node for name in node.output if name and name not in known]
    if not names:
        return
    probe = copy(model)
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    values = {value.name: value for value in session.open_model(probe, optimization="none").get_outputs()}
    for name in names:
        kind = _ELEMENTS.get(values[name].type)
        if kind is not None:
            # No shape at all is a number, or one that ONNX Runtime can't tell.
            shape = [size if isinstance(size, (int, str)) else None for size in values[name].shape] or None
            model.graph.value_info.append(onnx.helper.make_tensor_value_info(name, kind, shape))


_ELEMENTS = {
    "tensor(float)": 1, "tensor(uint8)": 2, "tensor(int8)": 3, "tensor(uint16)": 4, "tensor(int16)": 5,
    "tensor(int32)": 6, "tensor(int64)": 7, "tensor(string)": 8, "tensor(bool)": 9, "tensor(float16)": 10,
    "tensor(double)": 11, "tensor(uint32)": 12, "tensor(uint64)": 13, "tensor(bfloat16)": 16,
}  # fmt: skip


def probe(model: Any, tensors: Sequence[str], samples: Iterable[Arrays]) -> Iterable[dict[str, Array]]:
    """The values that `tensors` of the model take, sample by sample."""
    import onnx

    if not tensors:  # asked for none, ONNX Runtime gives all
        yield from ({} for _ in samples)
        return
    own = {value.name for value in model.graph.output}
    probed = copy(model)
    probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in own)
    runtime = session.open_model(probed, optimization="basic")
    for sample in samples:
        yield dict(zip(tensors, runtime.run(list(tensors), sample), strict=True))
