"""What is said of packages before anything of them is read."""

import pytest
from modelexport.contract import LoadOptions
from modelexport.errors import SourceError
from modelexport_coreml import mx_load, source


def test_other_files_are_left_to_other_sources():
    assert mx_load("net.onnx", LoadOptions()) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("old.mlmodel", r"from before ML Programs.*convert_to=\"mlprogram\""),
        ("built.mlmodelc", "compiled for the device"),
        ("none.mlpackage", r"no package .*none\.mlpackage"),
    ],
)
def test_what_is_no_package(name, said, tmp_path):
    if not name.startswith("none"):
        (tmp_path / name).mkdir()
    with pytest.raises(SourceError, match=said):
        source.load(tmp_path / name, LoadOptions())


def test_a_toolchain_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "importable", lambda module: module != "coremltools")
    (tmp_path / "theirs.mlpackage").mkdir()
    with pytest.raises(SourceError, match=r"needs coremltools.*pip install 'modelexport-coreml\[run\]'"):
        mx_load(f"{tmp_path}/theirs.mlpackage/", LoadOptions())


def test_a_changed_package_has_another_fingerprint(tmp_path):
    from modelexport.store.digests import tree_sha256

    path = tmp_path / "one.mlpackage"
    (path / "Data").mkdir(parents=True)
    (path / "Data" / "weight.bin").write_bytes(b"12")
    before = tree_sha256(path)
    (path / "Data" / "weight.bin").write_bytes(b"13")
    assert tree_sha256(path) != before
    (path / "Data" / "weight.bin").rename(path / "Data" / "weights.bin")
    (path / "Data" / "weights.bin").write_bytes(b"12")
    assert tree_sha256(path) != before
