"""Nothing looks finished too early, what a killed run left is put right, and the user's own is never replaced."""

import os
import shutil
import subprocess
import sys
import tempfile

import pytest
from modelexport.errors import OutputError
from modelexport.store import manifest, scratch, staging


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


#: what a run that was killed left, by what it did
UNFINISHED = ".net.tape.mx-abcd1234.tmp"


def test_artifact_that_a_killed_run_moved_aside_is_brought_back(artifact, tmp_path):
    final = tmp_path / "net.tape"
    shutil.copytree(artifact, tmp_path / ".net.tape.old")
    shutil.copytree(artifact, tmp_path / UNFINISHED)
    with pytest.raises(RuntimeError, match="converter"), staging.staged(final):
        raise RuntimeError("the converter fails")
    assert manifest.read(final).format == "tape"
    assert _names(tmp_path) == ["net.tape"]


def test_drafts_of_living_runs_and_what_others_made_are_left_alone(tmp_path):
    strangers = [tmp_path / ".net.tape.notes.tmp", tmp_path / ".net.tape.123", tmp_path / "net.mx-abcd1234.tmp"]
    other = tmp_path / UNFINISHED.replace("net", "other")
    for path in (*strangers, other):
        path.mkdir()
    with staging.staged(tmp_path / "net.tape") as living:
        (living / "half.bin").write_bytes(b"half")
        with staging.staged(tmp_path / "net.tape"):
            assert (living / "half.bin").is_file()
        with staging.staged(tmp_path / "another.tape"):
            assert (living / "half.bin").is_file()
    assert all(path.is_dir() for path in strangers)
    assert not other.exists()


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A temporary folder of its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


def test_what_a_killed_run_left_in_another_folder_goes_with_the_next_run(tmp_path, elsewhere):
    code = (
        "import os, signal, sys; from pathlib import Path; from modelexport.store import staging\n"
        "with staging.staged(Path(sys.argv[1])) as draft:\n"
        "    (draft / 'half.bin').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    place = tmp_path / "there" / "net.tape"
    variables = {**os.environ, "TMPDIR": str(elsewhere)}
    subprocess.run([sys.executable, "-c", code, str(place)], env=variables, check=False)
    assert len(_names(place.parent)) == 1
    with staging.staged(tmp_path / "here" / "net.tape"):
        pass
    assert _names(place.parent) == []
    assert _names(elsewhere) == []


def test_an_account_of_what_is_none_of_ours_removes_nothing(tmp_path, elsewhere):
    precious = tmp_path / "precious"
    precious.mkdir()
    account = elsewhere / "modelexport-draft.mx-abcd1234.tmp"
    account.mkdir()
    (account / "unfinished").write_bytes(os.fsencode(precious))
    with scratch.scratch("test"):
        pass
    assert precious.is_dir()
    assert not account.exists()


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
