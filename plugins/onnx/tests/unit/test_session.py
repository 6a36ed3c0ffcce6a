"""What is said of a file that ONNX Runtime can't load."""

import pytest
from modelexport.errors import RuntimeFailure
from modelexport_onnx import RunOptions, session


def test_a_dtype_without_kernels_is_no_matter_of_versions(tmp_path):
    onnx = pytest.importorskip("onnx")
    kind = onnx.TensorProto.BFLOAT16
    x, w, y = (onnx.helper.make_tensor_value_info(name, kind, [1, 3, 8, 8]) for name in "xwy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Conv", ["x", "w"], ["y"])], "g", [x, w], [y])
    opsets = [onnx.helper.make_opsetid("", 22)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "net.onnx")
    with pytest.raises(RuntimeFailure, match="Could not find an implementation for Conv") as caught:
        session.open_file(tmp_path / "net.onnx", RunOptions())
    assert "float32" in caught.value.hint
    assert "pip" not in caught.value.hint
