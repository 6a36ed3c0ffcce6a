"""The file itself: what was written is read, and what is no TFLite file is refused by name."""

import numpy as np
import pytest
from modelexport.contract import Dim, TensorSpec
from modelexport.errors import SourceError
from modelexport_tflite import files, inspection


def test_what_was_written_is_read(handmade, tmp_path):
    path = handmade.artifact(tmp_path).entry_path
    model = files.read(path)
    assert files.signatures(model) == ["serving_default"]
    assert files.operators(model) == {"FULLY_CONNECTED": 1}
    assert files.weights(model) == {"float32": 24}
    assert files.not_built_in(model) == []
    _, weight, written = model.subgraphs[0].tensors
    np.testing.assert_array_equal(files.constant(model, weight), handmade.WEIGHT.ravel())
    assert files.constant(model, written) is None


def test_the_data_of_buffers_begins_at_multiples_of_16(handmade, tmp_path):
    data = handmade.artifact(tmp_path).entry_path.read_bytes()
    assert data.index(handmade.WEIGHT.tobytes()) % 16 == 0


def test_operators_of_others_are_named(handmade):
    model = handmade.model()
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = 32
    for code, name in ((b"FlexErf", "SelectTF(Erf)"), (b"Mine", "Custom(Mine)")):
        model.operatorCodes[0].customCode = code
        assert files.not_built_in(model) == [name]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not a model, but long enough", "is no TFLite file .*TFL3"),
        (b"", "is no TFLite file .*TFL3"),
        (b"\xff\xff\xff\x7fTFL3" + bytes(8), "is no TFLite file, or a damaged one"),
    ],
)
def test_other_files_are_refused_by_name(content, said, tmp_path):
    path = tmp_path / "net.tflite"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=rf"net\.tflite {said}"):
        files.read(path)


def test_inputs_are_as_the_file_declares_them():
    assert files.spec_of("x", np.float32, (-1, 3, None)) == TensorSpec(
        "x", "float32", (Dim("batch"), 3, Dim("x_dim2"))
    )
    assert files.spec_of("pixels", np.uint8, np.array([1, 8])).values == (0, 255)
    with pytest.raises(SourceError, match="input 'text' holds"):
        files.spec_of("text", np.dtype("S5"), (1,))


def operator(index, name, inputs, outputs):
    return {"index": index, "op_name": name, "inputs": inputs, "outputs": outputs}


def test_what_a_delegate_computes_is_what_lies_between_its_ends():
    class Interpreter:
        def _get_ops_details(self):
            return [
                operator(0, "CONV_2D", [0, 9], [1]),
                operator(1, "ADD", [1, 2], [3]),
                operator(2, "TOPK_V2", [3, -1], [4]),
                operator(3, "DELEGATE", [0], [3]),
            ]

    assert inspection.delegated(Interpreter()) == {
        "operators": 2, "of": 3, "share": 0.6667, "parts": 1, "left": {"TOPK_V2": 1},
    }  # fmt: skip


def test_nothing_is_said_of_an_interpreter_that_lists_nothing():
    class Interpreter:
        def _get_ops_details(self):
            return []

    assert inspection.delegated(Interpreter()) == {}
