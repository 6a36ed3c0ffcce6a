"""What a model says of itself: types, precision, foreign nodes, and where nodes come from."""

import numpy as np
import pytest
from modelexport.contract import Dim
from modelexport.errors import ArtifactError


def product(graphs, kind=None):
    """A matrix product, its sides quantized to `kind` where there is one."""
    from onnx import TensorProto, helper, numpy_helper

    arrays = {"w": np.ones((8, 4), np.float32), "scale": np.array(0.5, np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    if kind is None:
        return graphs.graph_of(nodes, {"x": (1, ["batch", 8])}, ["y"], arrays)
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("MatMul", ["x", "d"], ["y"], name="product"),
    ]
    model = graphs.graph_of(nodes, {"x": (1, ["batch", 8])}, ["y"], arrays, opset=21)
    model.graph.initializer.append(helper.make_tensor("zero", getattr(TensorProto, kind), [], [0]))
    assert numpy_helper.to_array(model.graph.initializer[0]).shape == (8, 4)
    return model


@pytest.mark.parametrize(
    ("kind", "precision"), [(None, "float32"), ("INT8", "int8"), ("UINT8", "int8"), ("FLOAT8E4M3FN", "fp8")]
)
def test_precision_is_that_of_quantized_values_else_of_most_weights(graphs, kind, precision):
    from modelexport_onnx import contents

    assert contents.precision(product(graphs, kind)) == precision


def test_halves_and_what_few_weights_have_beside_them(graphs):
    from modelexport_onnx import contents
    from onnx import numpy_helper

    model = product(graphs)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((8, 4), np.float16), "w"))
    assert contents.precision(model) == "float16"
    assert contents.types(model) >= {"float16", "float32"}


def test_a_quantized_model_is_refused_with_its_operators(graphs):
    from modelexport_onnx import contents

    contents.refuse_quantized(product(graphs))
    with pytest.raises(ArtifactError, match="quantized already: it has DequantizeLinear, QuantizeLinear"):
        contents.refuse_quantized(product(graphs, "INT8"))


def test_outputs_as_the_file_declares_them(onnx, graphs):
    from modelexport_onnx import contents
    from onnx import helper

    value = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT16, ["batch", None, 3])
    model = graphs.graph_of(
        [helper.make_node("Identity", ["x"], ["y"])], {"x": (10, ["batch", 2, 3])}, [value], {}
    )
    (spec,) = contents.outputs(model)
    assert (spec.name, spec.dtype) == ("y", "float16")
    assert spec.shape == (Dim("batch"), Dim("y_dim1"), 3)


def test_foreign_nodes_are_found_in_branches_too(graphs):
    from modelexport_onnx import contents
    from onnx import helper

    own = helper.make_node("Neg", ["x"], ["no"])
    other = helper.make_node("Gelu", ["x"], ["yes"], domain="com.microsoft")
    branch = {
        name: helper.make_graph([node], name, [], [helper.make_tensor_value_info(node.output[0], 1, None)])
        for name, node in (("then_branch", other), ("else_branch", own))
    }
    model = graphs.graph_of(
        [helper.make_node("If", ["c"], ["y"], **branch)], {"x": (1, [2]), "c": (9, [])}, ["y"], {}
    )
    assert [node.op_type for node in contents.foreign(model)] == ["Gelu"]
    assert [node.op_type for node in contents.nodes(model)] == ["If", "Neg", "Gelu"]


def test_a_node_says_its_module_and_line():
    from modelexport_onnx import contents
    from onnx import helper

    node = helper.make_node("Neg", ["x"], ["y"])
    assert contents.place(node) == ""
    trace = 'File "/lib/torch/nn.py", line 3, in call\nFile "net.py", line 7, in forward'
    for key, value in {"name_scopes": "['', 'head', 'neg']", "stack_trace": trace}.items():
        node.metadata_props.add(key=f"pkg.torch.onnx.{key}", value=value)
    assert contents.place(node) == "head, net.py:7"
    node.metadata_props[0].value = "somebody else's note"
    assert contents.place(node) == "net.py:7"
