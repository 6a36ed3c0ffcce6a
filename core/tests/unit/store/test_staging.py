"""Nothing looks finished too early, what a killed run left is put right, and the user's own is never replaced."""

import os
import shutil
import subprocess
import sys

import pytest
from modelexport.errors import OutputError
from modelexport.store import manifest, staging


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_artifact_that_a_killed_run_moved_aside_is_brought_back(artifact, tmp_path):
    final, pid = tmp_path / "net.tape", _dead_pid()
    shutil.copytree(artifact, tmp_path / f".net.tape.{pid}.abc.old")
    shutil.copytree(artifact, tmp_path / f".net.tape.{pid}.abc.tmp")
    with pytest.raises(RuntimeError, match="converter"), staging.staged(final):
        raise RuntimeError("the converter fails")
    assert manifest.read(final).format == "tape"
    assert _names(tmp_path) == ["net.tape"]


def test_drafts_of_living_runs_are_left_alone(tmp_path):
    mine = tmp_path / f".net.tape.{os.getpid()}.abc.tmp"
    other = tmp_path / f".net.{_dead_pid()}.abc.tmp"
    strangers = [tmp_path / ".net.tape.notes.tmp", tmp_path / ".net.tape.123"]
    for path in (mine, other, *strangers):
        path.mkdir()
    with staging.staged(tmp_path / "net.tape"):
        pass
    assert all(path.is_dir() for path in (mine, other, *strangers))
    with staging.staged(tmp_path / "net"):
        pass
    assert not other.exists()


def test_folder_that_appears_during_the_work_is_not_replaced(tmp_path):
    final = tmp_path / "net.tape"
    with pytest.raises(OutputError, match="is not an artifact"), staging.staged(final) as draft:
        (draft / "model.tape").write_bytes(b"new")
        final.mkdir()
        (final / "notes.txt").write_text("mine")
        staging.publish(draft, final)
    assert _names(tmp_path) == ["net.tape"]
    assert _names(final) == ["notes.txt"]
    assert (final / "notes.txt").read_text() == "mine"


def test_looking_at_a_place_makes_nothing(tmp_path):
    staging.check_place(tmp_path / "new" / "folder" / "net.tape")
    assert _names(tmp_path) == []
