"""An archive is recognized by what is in it; a name that promises one must hold one."""

import zipfile

import pytest
from modelexport.errors import SourceError
from modelexport_torchscript import files


def write(path, *members):
    with zipfile.ZipFile(path, "w") as archive:
        for name in members:
            archive.writestr(name, b"")
    return path


@pytest.mark.parametrize("suffix", ["pt", "ts", "bin"])
def test_code_and_constants_make_an_archive(suffix, tmp_path):
    members = ("net/code/__torch__.py", "net/constants.pkl", "net/data.pkl")
    assert files.is_archive(write(tmp_path / f"net.{suffix}", *members))


@pytest.mark.parametrize("members", [("net/data.pkl", "net/data/0"), ("net/constants.pkl",), ("code.py",)])
def test_other_zips_are_left_to_others(members, tmp_path):
    assert not files.is_archive(write(tmp_path / "net.pt", *members))


def test_other_files_are_left_to_others(tmp_path):
    for name, content in (("net.pt", b"\x80\x02}"), ("text.bin", b"PK is how it begins"), ("empty.pt", b"")):
        (tmp_path / name).write_bytes(content)
        assert not files.is_archive(tmp_path / name), name


@pytest.mark.parametrize(
    ("name", "content"), [("cut.pt", b"PK\x03\x04 and no more"), ("junk.jit", b"junk"), ("empty.torchscript", b"")]
)
def test_what_should_be_an_archive_and_is_none_is_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=f"{name} is no TorchScript archive, or a damaged one"):
        files.is_archive(tmp_path / name)
