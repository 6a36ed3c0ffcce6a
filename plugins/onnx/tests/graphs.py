"""ONNX graphs for the tests of the ONNX target, made by hand, and models as they lie on disk."""

import collections

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper


class Written:
    """A model.onnx as it lies on disk."""

    def __init__(self, artifact):
        self.model = onnx.load(artifact.entry_path)
        self.nodes = list(self.model.graph.node)
        self.arrays = {t.name: numpy_helper.to_array(t) for t in self.model.graph.initializer}
        self.makers = {name: node for node in self.nodes for name in node.output}

    @property
    def counts(self):
        return collections.Counter(node.op_type for node in self.nodes)

    def all(self, kind):
        return [node for node in self.nodes if node.op_type == kind]

    def dequantized(self, name):
        """(integers or None, scale, zero point) of the DequantizeLinear that makes a tensor."""
        node = self.makers[name]
        assert node.op_type == "DequantizeLinear", node.op_type
        scale, zero = self.arrays[node.input[1]], self.arrays[node.input[2]]
        return self.arrays.get(node.input[0]), scale, zero


def graph_of(nodes, inputs, outputs, arrays, opset=20, **more):
    """A model of onnx.helper's nodes: `inputs` name → (element type, shape), `outputs` names or value infos."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(o, 1, None) if isinstance(o, str) else o for o in outputs],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, **more)


def weight_types(model):
    """How many convolutions and matrix products have their weights in which type."""
    stored = {t.name: onnx.TensorProto.DataType.Name(t.data_type).lower() for t in model.graph.initializer}
    makers = {node.output[0]: node for node in model.graph.node if node.output}
    heavy = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    kinds = [_stored_type(node.input[1], stored, makers) for node in heavy]
    return collections.Counter(kind for kind in kinds if kind)


def _stored_type(name, stored, makers):
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


def same_session(model):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


# --------------------------------------------------------------------------------------- graphs of all kinds


def normal(*shape, seed=0, size=0.2):
    return (np.random.default_rng(seed).standard_normal(shape) * size).astype(np.float32)


def branches():
    """If, whose branches read a weight that a layer outside reads too, and a Loop around a product."""

    def branch(name, node):
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(node.output[0], 1, None)])

    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "w"], ["product"]),
            helper.make_node("Tanh", ["product"], ["next"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [helper.make_tensor_value_info(*v) for v in (("i", 7, []), ("go", 9, []), ("state", 1, None))],
        [helper.make_tensor_value_info(*v) for v in (("on", 9, []), ("next", 1, None))],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["first"]),
        helper.make_node("ReduceSum", ["first"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["positive"]),
        helper.make_node(
            "If", ["positive"], ["chosen"],
            then_branch=branch("then", helper.make_node("MatMul", ["first", "w"], ["yes"])),
            else_branch=branch("else", helper.make_node("Neg", ["first"], ["no"])),
        ),
        helper.make_node("Loop", ["times", "", "chosen"], ["last"], body=body),
        helper.make_node("MatMul", ["last", "v"], ["y"]),
    ]  # fmt: skip
    arrays = {"w": normal(48, 48), "v": normal(48, 40, seed=1), "zero": np.float32(0), "times": np.int64(3)}
    return nodes, {"x": (1, ["n", 48])}, ["y"], {name: np.asarray(array) for name, array in arrays.items()}


def outputs_of_all_kinds():
    """Floats twice, one of them used inside as well, and integers."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "v"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=-1, keepdims=0),
    ]
    found = ["scores", "hidden", helper.make_tensor_value_info("best", 7, None)]
    return nodes, {"x": (1, ["n", 48])}, found, {"w": normal(48, 48), "v": normal(48, 40, seed=1)}


def shared_weights():
    """A weight in two layers, once as a Gemm's transposed; Gemms with every attribute; names that are taken."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Gemm", ["a", "w", "b"], ["c"], name="MatMul_0", transB=1),
        helper.make_node("Transpose", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "v"], ["e"], transA=1, alpha=0.5),
        helper.make_node("Gemm", ["e", "u", "b"], ["y"], transB=1, beta=2.0),
    ]
    arrays = {
        "w": normal(48, 48),
        "v": normal(48, 48, seed=1),
        "u": normal(48, 48, seed=2),
        "b": normal(48, seed=3),
    }
    return nodes, {"x": (1, ["n", 48])}, ["y"], arrays


def stacked_weights():
    """A constant weight of three dimensions, constants as nodes, and a weight that is transposed as it runs."""
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(normal(48, 40, seed=2), "k"))
    nodes = [
        constant,
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Transpose", ["v"], ["turned"]),
        helper.make_node("MatMul", ["a", "turned"], ["b"]),
        helper.make_node("MatMul", ["b", "k"], ["y"]),
    ]
    return nodes, {"x": (1, [4, "n", 48])}, ["y"], {"w": normal(4, 48, 48), "v": normal(48, 48, seed=1)}


def convolutions_of_all_kinds():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("ConvTranspose", ["b", "v", "s"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("ConvTranspose", ["c", "u"], ["y"], kernel_shape=[2, 2], group=2),
    ]
    arrays = {"w": normal(16, 3, 3, 3), "v": normal(16, 24, 2, 2, seed=1), "s": normal(24, seed=2)}
    return nodes, {"x": (1, ["n", 3, 8, 8])}, ["y"], arrays | {"u": normal(24, 16, 2, 2, seed=3)}
