"""Readers of existing files check and say the same things."""

import pytest
from modelexport.contract import Dim, LoadOptions, Source, TensorSpec
from modelexport.errors import RuntimeFailure, SourceError, UnsafeFileError
from modelexport.toolkit import check_readable, copy_as, declared, reading, size_in_file

OWN = (TensorSpec("a", "float32", (1, 8)), TensorSpec("b", "int32", (4,)))


def test_a_missing_file_and_a_missing_package_are_told_apart(tmp_path):
    with pytest.raises(SourceError, match=r"no file .*no\.toy.*give the path of a \.toy file"):
        check_readable(tmp_path / "no.toy", "a .toy file", (), "")
    file = tmp_path / "net.toy"
    file.write_text("")
    with pytest.raises(SourceError, match=r"net\.toy needs no_such_module.*pip install toy"):
        check_readable(file, "a .toy file", ("json", "no_such_module"), "pip install toy")
    check_readable(file, "a .toy file", ("json",), "")
    with pytest.raises(SourceError, match="no file"):
        check_readable(tmp_path, "a .toy file", (), "")


@pytest.mark.parametrize("error", [ValueError("bad magic"), RuntimeFailure("bad magic", "try another")])
def test_what_goes_wrong_in_reading_names_the_file(error, tmp_path):
    with pytest.raises(SourceError, match=r"net\.toy.*bad magic") as raised, reading(tmp_path / "net.toy", "Toy"):
        raise error
    assert raised.value.__cause__ is error


def test_a_file_that_is_not_safe_to_read_stays_one(tmp_path):
    with pytest.raises(UnsafeFileError, match="holds code"), reading(tmp_path, "Toy"):
        raise UnsafeFileError("it holds code")


def test_a_full_disk_is_not_the_files_fault(tmp_path):
    with pytest.raises(OSError, match="No space"), reading(tmp_path / "net.toy", "Toy"):
        raise OSError(28, "No space left on device")


def test_declared_inputs_are_taken_where_they_fit(tmp_path):
    assert declared(tmp_path, OWN, LoadOptions()) == OWN
    found = declared(tmp_path, OWN, LoadOptions(inputs=("ids:float32[n=1..4,8]", "m:int32[k]")))
    assert found[0] == TensorSpec("ids", "float32", (Dim("n", 1, 4), 8))
    for wrong in (("a:float32[1,8]",), ("a:float16[1,8]", "b:int32[4]"), ("a:float32[8]", "b:int32[4]")):
        with pytest.raises(SourceError, match=r"takes other inputs than declared.*a:float32\[1,8\]"):
            declared(tmp_path, OWN, LoadOptions(inputs=wrong))


def test_sizes_of_a_file_become_numbers_or_dims():
    assert size_in_file(3, "x", 0) == 3
    assert size_in_file("batch", "x", 0) == Dim("batch")
    for unknown in (None, "", 0, -1):
        assert size_in_file(unknown, "x", 2) == Dim("x_dim2")


def test_files_and_folders_are_copied(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"1")
    copy_as(Source(path=tmp_path / "folder"), tmp_path / "copy")
    copy_as(Source(path=tmp_path / "folder" / "file"), tmp_path / "other")
    assert (tmp_path / "copy" / "file").read_bytes() == (tmp_path / "other").read_bytes() == b"1"
