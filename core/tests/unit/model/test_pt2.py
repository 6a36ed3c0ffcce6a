"""A torch.export program that may run code is refused before torch opens it, wherever it comes from."""

import dataclasses
import os
import shutil
import sys

import modelexport
import pytest
from modelexport.errors import SourceError, UnsafeFileError
from modelexport.model import pt2
from modelexport.store import manifest
from modelexport.testing import beside

pytestmark = pytest.mark.usefixtures("toys")

strangers = beside(__file__, "../../strangers/pt2")

#: the layout before torch 2.8 has its members in no folder
FLAT = {"legacy-json": "", "legacy-pt": ""}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return strangers.harmless(tmp_path_factory.mktemp("program") / "program.pt2")


@pytest.fixture(scope="module")
def members(program):
    return strangers.read(program)


@pytest.fixture(scope="module")
def captured(program, tmp_path_factory):
    (artifact,) = modelexport.export(program, "captured", tmp_path_factory.mktemp("captured"))
    return artifact.path


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "lit"


@pytest.fixture
def armed(members, marker, tmp_path, monkeypatch):
    """A file with one of the attacks: `armed("sympify") -> Path`."""

    def write(name):
        (tmp_path / "lit.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")  # for those that import
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "lit", raising=False)
        file = tmp_path / "armed.pt2"
        return strangers.write(file, strangers.ATTACKS[name](members, marker), FLAT.get(name, "model/"))

    return write


def posted(captured, file, folder):
    """The artifact with another program, and the sha256 of that in its manifest."""
    copy = shutil.copytree(captured, folder)
    shutil.copyfile(file, copy / "program.pt2")
    artifact = manifest.read(copy, check_files=False)
    manifest.write(dataclasses.replace(artifact, files=manifest.list_files(copy)))
    return copy


def test_a_harmless_program_passes(program, captured):
    pt2.check_program(program)
    assert modelexport.load(captured).parity.verified is True


def test_members_written_by_another_zip_pass_as_well(members, tmp_path):
    """Otherwise the tests below might prove no more than that."""
    assert pt2.load_program(strangers.write(tmp_path / "same.pt2", members)).range_constraints


@pytest.mark.parametrize("name", strangers.ATTACKS)
def test_no_attack_succeeds_as_a_source(name, armed, marker, tmp_path):
    with pytest.raises(
        (UnsafeFileError, SourceError), match=r"armed\.pt2 (may run code|is no torch\.export)"
    ) as caught:
        modelexport.export(armed(name), "tape", tmp_path)
    assert "--allow-pickle" in caught.value.hint
    assert not marker.exists()


@pytest.mark.parametrize("name", strangers.ATTACKS)
def test_no_attack_succeeds_as_an_artifact(name, armed, marker, captured, tmp_path):
    copy = posted(captured, armed(name), tmp_path / "posted")
    with pytest.raises((UnsafeFileError, SourceError), match=r"program\.pt2") as caught:
        modelexport.run(copy)
    assert "-k allow-pickle=true" in caught.value.hint
    with pytest.raises((UnsafeFileError, SourceError), match=r"program\.pt2") as caught:
        modelexport.export(copy, "tape", tmp_path)
    assert "--allow-pickle" in caught.value.hint
    assert not marker.exists()


@pytest.mark.parametrize("name", sorted(strangers.REAL))
def test_the_attack_is_real(name, armed, marker):
    """Otherwise the tests above would prove nothing: what trusts the file does make the marker."""
    import torch

    try:
        program = pt2.load_program(armed(name), trusted=True)
        program.module()(torch.ones(3, 4), {"y": torch.ones(3, 2)})
    except Exception as error:
        assert not isinstance(error, UnsafeFileError)
    assert marker.exists()


def test_a_captured_artifact_can_be_trusted(armed, marker, captured, tmp_path):
    copy = posted(captured, armed("guard"), tmp_path / "posted")
    with modelexport.run(copy, {"allow-pickle": "true"}) as session:
        assert [spec.name for spec in session.inputs] == ["x", "more_y"]
    with pytest.raises(SourceError, match=r"no torch\.export program, or a damaged one"):
        modelexport.export(armed("samples"), "tape", tmp_path, allow_pickle=True)
    assert marker.is_dir()


@pytest.mark.parametrize("build", strangers.ODD, ids=lambda build: build.__name__)
def test_archives_that_can_be_read_in_two_ways_are_refused(build, members, tmp_path):
    with pytest.raises(UnsafeFileError, match="may run code that it holds"):
        pt2.check_program(build(tmp_path / "odd.pt2", members))


@pytest.mark.parametrize("size", [0, 3, 21, 22, 2000, -1])
def test_a_truncated_program_is_said_to_be_damaged(program, tmp_path, size):
    path = tmp_path / "short.pt2"
    path.write_bytes(program.read_bytes()[:size])
    with pytest.raises(SourceError, match="damaged"):
        modelexport.export(path, "tape", tmp_path)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt2")
    with pytest.raises(SourceError, match=r"no file|is a FIFO"):
        modelexport.export(tmp_path / "pipe.pt2", "tape", tmp_path)


def test_changed_programs_end_in_a_clear_error_or_none(members, tmp_path):
    """Sixty of endlessly many; `make fuzz` tries more of them."""
    fuzz, marker, ends = beside(__file__, "../../fuzz/programs"), tmp_path / "lit", set()
    for seed in range(60):
        path = strangers.write(tmp_path / "changed.pt2", strangers.mutated(members, seed, marker))
        ends.add(fuzz.tried(path, marker))
    assert ends == {"refused", "passed", "loaded"}
