"""An existing .onnx file as a source: its inputs, as it has them and as they are declared."""

import numpy as np
import pytest
from modelexport.contract import Dim, LoadOptions
from modelexport.errors import SourceError


@pytest.fixture
def path(onnx, graphs, tmp_path):
    """scale: int64[] and x: float32[batch,4] give x · scale."""
    from onnx import helper

    nodes = [
        helper.make_node("Cast", ["scale"], ["factor"], to=1),
        helper.make_node("Mul", ["x", "factor"], ["y"]),
    ]
    onnx.save(graphs.graph_of(nodes, {"x": (1, ["batch", 4]), "scale": (7, [])}, ["y"], {}), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def load(path, *inputs):
    from modelexport_onnx import source

    return source.load(path, LoadOptions(inputs=inputs))


def test_inputs_are_read_from_the_file(path):
    found = load(path)
    assert [str(spec) for spec in found.specs] == ["x:float32[batch,4]", "scale:int64[]"]
    x = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(found.reference({"x": x, "scale": np.array(3)})["y"], 3 * x)


def test_declared_dims_and_values_are_honoured_in_any_order(path):
    found = load(path, "scale:int64[]=1..9", "x:float32[n=1..8,4]")
    assert [spec.name for spec in found.specs] == ["scale", "x"]
    assert found.specs[0].values == (1, 9)
    assert found.specs[1].shape == (Dim("n", 1, 8), 4)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["x:float32[batch,4]"], "takes other inputs than declared"),
        (["x:float64[batch,4]", "scale:int64[]"], "takes other inputs than declared"),
        (["x:float32[batch,4,1]", "scale:int64[]"], "takes other inputs than declared"),
        (["x:float32[batch,5]", "scale:int64[]"], r"can't take the input x:float32\[batch,5\]"),
        (["z:float32[batch,4]", "scale:int64[]"], r"can't take the input z:float32\[batch,4\]"),
    ],
)
def test_what_the_file_cannot_take(path, inputs, message):
    with pytest.raises(SourceError, match=message) as caught:
        load(path, *inputs)
    assert "x:float32[batch,4], scale:int64[]" in caught.value.hint


def test_no_file_and_no_model(tmp_path):
    with pytest.raises(SourceError, match="no file"):
        load(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(SourceError, match=r"text\.onnx is no ONNX model, or a damaged one"):
        load(tmp_path / "text.onnx")
