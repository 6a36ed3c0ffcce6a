"""A floating-point ONNX graph as quantization sees it: named nodes, known types, and what each layer computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.errors import ArtifactError, ConversionError

from .. import fusions, modelfile

if TYPE_CHECKING:
    from modelexport.contract import Array, Arrays

#: operators that only a quantized graph has
QUANTIZED = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "MatMulNBits",
    "QLinearConv", "QLinearMatMul", "QAttention", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QGemm",
    "GatherBlockQuantized",
}  # fmt: skip

#: operator → which inputs are weights, and along which axis a weight has its output channels
WEIGHTS: Mapping[str, Mapping[int, int]] = {
    "Conv": {1: 0},
    "ConvTranspose": {1: 1},
    "MatMul": {1: -1},
    "Gemm": {1: 1},
    "LSTM": {1: 1, 2: 1},
    "GRU": {1: 1, 2: 1},
}

#: operators that only lay out what they are given: of constants, they make constants of the same size
LAYOUT = {"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Slice", "Split", "Concat", "Flatten"}

#: opset in which QuantizeLinear learnt axes
OLDEST = 13


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
        found = []
        for node in self.model.graph.node:
            for index, axis in WEIGHTS.get(node.op_type, {}).items():
                tensor = self.initializers.get(node.input[index]) if index < len(node.input) else None
                if tensor is not None and tensor.data_type == 1 and len(tensor.dims) >= 2:
                    transposed = node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
                    found.append((node, index, 0 if transposed else axis % len(tensor.dims)))
        return found

    def embeddings(self) -> list[Any]:
        """Gathers of rows from a constant float table."""
        found = []
        for node in self.model.graph.node:
            table = self.initializers.get(node.input[0]) if node.op_type == "Gather" else None
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            if table is not None and table.data_type == 1 and len(table.dims) == 2 and not axis:
                found.append(node)
        return found

    def layers(self, shapes: Mapping[str, Sequence[int]]) -> list[Layer]:
        """The layers with weights, at the shapes of one sample's tensors."""
        found = []
        for node, index, axis in self.weighted():
            dims = list(self.initializers[node.input[index]].dims)
            outputs = shapes.get(node.output[0], ())
            size = 1
            for length in outputs:
                size *= length
            channels = dims[axis]
            macs = size * (_product(dims) // max(channels, 1)) if node.op_type != "ConvTranspose" else 0
            if node.op_type in ("LSTM", "GRU"):
                macs = _product(dims) * _product(shapes.get(node.input[0], ())[:2])
            if node.op_type == "ConvTranspose":
                macs = _product(shapes.get(node.input[0], ())) * _product(dims[1:])
            found.append(
                Layer(node.name, node.op_type, node.input[index], axis, node.input[0], node.output[0], macs)
            )
        return found

    def weight_bytes(self) -> dict[str, int]:
        """The size of each layer's weights in float32, by its name."""
        sizes: dict[str, int] = {}
        for node, index, _ in self.weighted():
            sizes[node.name] = sizes.get(node.name, 0) + 4 * _product(self.initializers[node.input[index]].dims)
        for node in self.embeddings():
            sizes[node.name] = 4 * _product(self.initializers[node.input[0]].dims)
        return sizes


def _reads(graph: Any) -> Iterator[str]:
    for node in graph.node:
        yield from _reads_of(node)


def _reads_of(node: Any) -> Iterator[str]:
    yield from (name for name in node.input if name)
    for inner in _inner(node):
        yield from _reads(inner)
        yield from (value.name for value in inner.output)


def _inner(node: Any) -> Iterator[Any]:
    """The graphs that a node holds as branches or as its body."""
    for attribute in node.attribute:
        yield from (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs


def _kinds(graph: Any) -> set[str]:
    own = {node.op_type for node in graph.node}
    return own.union(*(_kinds(inner) for node in graph.node for inner in _inner(node)))


def _product(numbers: Iterable[int]) -> int:
    total = 1
    for number in numbers:
        total *= number
    return total


def load_float(path: Path) -> Any:
    """The model as it is. Raises ArtifactError for one that is quantized already."""
    model = modelfile.load(path)
    if found := sorted(_kinds(model.graph) & QUANTIZED):
        raise ArtifactError(
            f"the model is quantized already: it has {', '.join(found)}", "quantize the floating-point model"
        )
    return model


def load(path: Path) -> Any:
    """The model to quantize: constants are initializers, nodes have names of their own, tensors their types.

    Raises ArtifactError for a model that is quantized already, ConversionError for an opset too old.
    """
    from . import rewrite

    model = load_float(path)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST:
        raise ConversionError(
            f"opset {opset} has no per-channel quantization: that came with opset {OLDEST}",
            "export the model again at a newer opset, or convert it with onnx.version_converter",
        )
    name_nodes(model)
    gather_constants(model)
    fold_layout(model)
    own_weights(model)
    absorb_beta(model)
    fusions.take_apart(model)
    rewrite.split_attention(model)
    add_types(model)
    return model


def copy(model: Any) -> Any:
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


def gather_constants(model: Any) -> None:
    """Make initializers of Constant nodes, and constants of initializers that a caller could replace."""
    graph, own = model.graph, {value.name for value in model.graph.output}
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and value is not None and node.output[0] not in own:
            graph.initializer.add().CopyFrom(value)
            graph.initializer[-1].name = node.output[0]
            del graph.node[place]
    names = {tensor.name for tensor in graph.initializer}
    for place in reversed([i for i, value in enumerate(graph.input) if value.name in names]):
        del graph.input[place]


def fold_layout(model: Any) -> None:
    """Make initializers of weights that are only laid out anew, as torch.onnx leaves those of an LSTM."""
    from onnx import ValueInfoProto, numpy_helper

    from .. import session

    graph = model.graph
    own, constants = {value.name for value in graph.output}, {tensor.name for tensor in graph.initializer}
    folded: list[Any] = []
    for node in graph.node:
        whole = all(not name or name in constants for name in node.input)
        if node.op_type in LAYOUT and whole and not own.intersection(node.output):
            folded.append(node)
            constants.update(node.output)
    if not folded:
        return
    apart = copy(model)
    for part in (apart.graph.node, apart.graph.input, apart.graph.output, apart.graph.value_info):
        del part[:]
    apart.graph.node.extend(folded)
    names = [name for node in folded for name in node.output if name]
    apart.graph.output.extend(ValueInfoProto(name=name) for name in names)
    values = dict(zip(names, session.open_model(apart, optimization="none").run(names, {}), strict=True))
    for node in folded:
        graph.node.remove(node)
    read = Graph(model).uses()
    graph.initializer.extend(numpy_helper.from_array(values[name], name) for name in names if read[name])
    drop_unused(model, {name for node in folded for name in node.input})


def own_weights(model: Any) -> None:
    """Give layers weights of their own where ONNX Runtime's quantizers would spoil what others read.

    They lay out the weights of a Gemm or an LSTM anew under the same name, scale a weight along one axis, and a
    bias as the first layer that reads it needs it.
    """
    graph, axes = Graph(model), dict[str, int]()
    uses = graph.uses()
    spoilt = []
    for node, index, axis in graph.weighted():
        turned = node.op_type in ("LSTM", "GRU") or (node.op_type == "Gemm" and axis == 0)
        if turned or axes.setdefault(node.input[index], axis) != axis:
            spoilt.append((node, index))
        if node.op_type in ("Conv", "ConvTranspose", "Gemm") and len(node.input) > 2:
            spoilt.append((node, 2))
    for node, index in spoilt:
        name = node.input[index]
        if name in graph.initializers and uses[name] > 1:
            twin = model.graph.initializer.add()
            twin.CopyFrom(graph.initializers[name])
            twin.name = node.input[index] = f"{name}_of_{node.name}"
    drop_unused(model, uses)


def absorb_beta(model: Any) -> None:
    """Scale the bias of a Gemm instead of saying so in its `beta`, which ONNX Runtime's quantizers get wrong."""
    from onnx import numpy_helper

    graph = Graph(model)
    uses = graph.uses()
    for node in (node for node in model.graph.node if node.op_type == "Gemm" and len(node.input) > 2):
        name = node.input[2]
        for beta in (attribute for attribute in node.attribute if attribute.name == "beta"):
            if name in graph.initializers and uses[name] == 1:
                scaled = graph.weight(name) * graph.weight(name).dtype.type(beta.f)
                graph.initializers[name].CopyFrom(numpy_helper.from_array(scaled, name))
                beta.f = 1.0


def drop_unused(model: Any, names: Iterable[str]) -> None:
    """Remove those of these initializers that nothing reads any more."""
    unused = set(names) - set(Graph(model).uses())
    for place in reversed([i for i, tensor in enumerate(model.graph.initializer) if tensor.name in unused]):
        del model.graph.initializer[place]


def add_types(model: Any) -> None:
    """Write the type of every tensor into the model, as ONNX Runtime infers it, its own operators included."""
    import onnx

    from .. import session

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

    from .. import session

    if not tensors:  # asked for none, ONNX Runtime gives all
        yield from ({} for _ in samples)
        return
    own = {value.name for value in model.graph.output}
    probed = copy(model)
    probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in own)
    runtime = session.open_model(probed, optimization="basic")
    for sample in samples:
        yield dict(zip(tensors, runtime.run(list(tensors), sample), strict=True))
