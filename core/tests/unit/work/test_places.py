"""Where artifacts go: what stands is replaced by a success, kept by a failure, refused if it is the user's."""

import shutil
import sys

import pytest

from core.tests.unit.work.conftest import files

pytestmark = pytest.mark.usefixtures("toys")

PARITY, OUTPUT = 3, 7


@pytest.fixture
def export(mx, nets, tmp_path):
    """`mx export` of a net of nets/traps.py to a tape called net.tape."""

    def run(factory="counter_twin", out=tmp_path, *more):
        return mx("export", nets("traps", factory), "-t", "tape", "-o", out, "--name", "net", *more)

    return run


@pytest.fixture
def standing(artifact, tmp_path):
    """A good artifact at the place."""
    return shutil.copytree(artifact, tmp_path / "net.tape")


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_place_below_a_file(export, tmp_path):
    (tmp_path / "file").write_text("mine")
    result = export(out=tmp_path / "file" / "build")
    assert result.code == OUTPUT
    assert str(tmp_path / "file") in result.error
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_place_that_cannot_be_written(export):
    result = export(out="/proc/build")
    assert result.code == OUTPUT
    assert "/proc" in result.error


@pytest.mark.parametrize("name", ["net.tape", "net.tape.failed"])
def test_folder_of_the_users_is_refused_and_untouched(name, export, tmp_path):
    """Before any work: neither the artifact nor a failed one may take the place of what is not an artifact."""
    (tmp_path / name / "sub").mkdir(parents=True)
    (tmp_path / name / "sub" / "notes.txt").write_text("mine")
    before = files(tmp_path)
    result = export("size_one")
    assert result.code == OUTPUT
    assert f"{tmp_path / name} is there and is not an artifact" in result.error
    assert files(tmp_path) == before
    assert _names(tmp_path) == [name]


def test_file_at_the_place_is_refused(export, tmp_path):
    (tmp_path / "net.tape").write_bytes(b"a model")
    assert export().code == OUTPUT
    assert (tmp_path / "net.tape").read_bytes() == b"a model"


def test_empty_folder_at_the_place_is_used(export, tmp_path):
    (tmp_path / "net.tape").mkdir()
    assert export().code == 0
    assert (tmp_path / "net.tape" / "manifest.json").is_file()


def test_failed_export_leaves_the_artifact_that_was_there(export, standing, tmp_path, read_manifest):
    before = files(standing)
    for _ in range(2):  # the second failure replaces the first one's folder
        assert export("size_one").code == PARITY
        assert _names(tmp_path) == ["net.tape", "net.tape.failed"]
        assert files(standing) == before
        assert read_manifest(tmp_path / "net.tape.failed")["verified"] is False


def test_success_replaces_the_artifact_that_was_there(export, standing, tmp_path, read_manifest):
    assert export("size_one_twin").code == 0
    assert _names(tmp_path) == ["net.tape"]
    assert "size_one_twin" in read_manifest(standing)["lineage"][0]["source"]["ref"]


def test_link_at_the_place_is_replaced_and_its_target_kept(export, artifact, tmp_path):
    shutil.copytree(artifact, tmp_path / "version1")
    before = files(tmp_path / "version1")
    (tmp_path / "net.tape").symlink_to("version1")
    assert export("size_one_twin").code == 0
    assert _names(tmp_path) == ["net.tape", "version1"]
    assert files(tmp_path / "version1") == before
    assert not (tmp_path / "net.tape").is_symlink()
