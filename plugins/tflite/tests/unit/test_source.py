"""Existing files as sources: whose they are, what is refused, and inputs that are declared."""

import numpy as np
import pytest
from modelexport.contract import Dim, LoadOptions, Source
from modelexport.errors import OptionError, SourceError, UnsafeFileError
from modelexport.toolkit import files as readers
from modelexport_tflite import ExportOptions, mx_load, source


def test_a_tflite_file_is_its_own_reference(handmade, tmp_path):
    path = handmade.artifact(tmp_path).entry_path
    found = mx_load(str(path), LoadOptions())
    assert [str(spec) for spec in found.specs] == ["x:float32[batch,3]"]
    assert (found.format, found.path, found.outputs) == ("tflite", path, ("y",))
    x = np.ones((5, 3), np.float32)
    np.testing.assert_allclose(found.reference({"x": x})["y"], x @ handmade.WEIGHT.T)


def test_a_tflite_file_is_copied_byte_by_byte(handmade, tmp_path):
    path = handmade.artifact(tmp_path).entry_path
    (tmp_path / "out").mkdir()
    build = source.adopt(mx_load(str(path), LoadOptions()), tmp_path / "out", ExportOptions())
    assert (tmp_path / "out" / build.entry).read_bytes() == path.read_bytes()
    assert build.details["operators"] == {"FULLY_CONNECTED": 1}
    assert build.tools == ("ai-edge-litert",)


def test_inputs_are_declared_by_the_files_names(handmade, tmp_path):
    path = handmade.artifact(tmp_path).entry_path
    declared = mx_load(str(path), LoadOptions(inputs=("x:float32[n=1..4,3]=0..1",)))
    assert declared.specs[0].shape == (Dim("n", 1, 4), 3)
    assert declared.specs[0].values == (0, 1)
    with pytest.raises(SourceError, match=r"has no input 'image' \(it takes x:float32"):
        mx_load(str(path), LoadOptions(inputs=("image:float32[n,3]",)))
    with pytest.raises(SourceError, match="takes other inputs than declared"):
        mx_load(str(path), LoadOptions(inputs=("x:float32[n,3,1]",)))


def test_what_is_not_there_or_no_tflite_file(tmp_path):
    with pytest.raises(SourceError, match=r"no file .*none\.tflite"):
        mx_load(str(tmp_path / "none.tflite"), LoadOptions())
    with pytest.raises(SourceError, match=r"no file .*none\.keras"):
        mx_load(str(tmp_path / "none.keras"), LoadOptions())
    (tmp_path / "text.tflite").write_text("not a model, but long enough")
    with pytest.raises(SourceError, match=r"text\.tflite is no TFLite file"):
        mx_load(str(tmp_path / "text.tflite"), LoadOptions())


def test_what_the_interpreter_refuses_names_the_file(handmade, tmp_path):
    from modelexport_tflite import files

    model = handmade.model()
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = 32
    model.operatorCodes[0].customCode = b"Mine"
    files.write(model, tmp_path / "mine.tflite")
    with pytest.raises(SourceError, match=r"mine\.tflite: LiteRT lacks operators .*Custom\(Mine\)"):
        mx_load(str(tmp_path / "mine.tflite"), LoadOptions())


def test_without_tensorflow_the_install_line_is_named(tmp_path, monkeypatch):
    (tmp_path / "model.keras").write_bytes(b"PK")
    (tmp_path / "saved_model.pb").write_bytes(b"")
    monkeypatch.setattr(readers, "importable", lambda module: module != "tensorflow")
    for ref in (tmp_path / "model.keras", tmp_path):
        with pytest.raises(SourceError, match="needs tensorflow") as caught:
            mx_load(str(ref), LoadOptions())
        assert "modelexport-tflite[tensorflow]" in caught.value.hint


def test_hdf5_files_may_run_code(tmp_path):
    (tmp_path / "net.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UnsafeFileError, match=r"net\.h5 is an HDF5 file") as caught:
        mx_load(str(tmp_path / "net.h5"), LoadOptions())
    assert "--allow-pickle" in caught.value.hint


def test_other_references_are_left_to_others(tmp_path):
    (tmp_path / "weights.h5").write_bytes(b"not HDF5")
    for ref in ("nets.py:net", "model.onnx", str(tmp_path), str(tmp_path / "weights.h5")):
        assert mx_load(ref, LoadOptions()) is None


def test_a_file_keeps_its_layout(tmp_path):
    adopted = Source(format="tflite", path=tmp_path / "net.tflite")
    with pytest.raises(OptionError, match=r"layout=nhwc is for models of PyTorch: .*net\.tflite keeps its layout"):
        source.adopt(adopted, tmp_path, ExportOptions(layout="nhwc"))
