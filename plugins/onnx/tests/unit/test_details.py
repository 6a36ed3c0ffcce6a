"""What a manifest may say of an ONNX model: no session entry of ONNX Runtime's that names a file."""

import pytest
from modelexport import typed
from modelexport_onnx.details import AS_WRITTEN, Details


def test_what_the_plugin_writes_is_taken():
    assert typed.read(Details, {"session": AS_WRITTEN, "rounded": "float16"}).session == AS_WRITTEN
    assert typed.read(Details, {"session": {"session.disable_quant_qdq": "1"}}).target_device == "cpu"


@pytest.mark.parametrize(
    "session",
    [
        {"session.optimized_model_filepath": "/tmp/x"},
        {"session.disable_quant_qdq": "0"},
        {"ep.context_file_path": "x", "ep.context_enable": "1"},
        {"session.model_external_initializers_file_folder_path": "/"},
        {**AS_WRITTEN, "session.load_model_format": "ORT"},
    ],
)
def test_no_other_session_entry_is(session):
    with pytest.raises(typed.Mismatch, match=r"session: expected session\.disable_quant_qdq=1 and "):
        typed.read(Details, {"session": session})


@pytest.mark.parametrize("details", [{"rounded": "float8"}, {"target_device": "npu"}, {"providers": ["x"]}])
def test_nor_anything_else(details):
    with pytest.raises(typed.Mismatch, match="expected one of"):
        typed.read(Details, details)
