"""A run that is killed, or whose disk fills, leaves nothing that looks finished and harms nothing."""

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DRIVERS = Path(__file__).parent / "drivers"
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="renameat2 is Linux's")


@pytest.fixture
def drive():
    """Run one of tests/drivers; gives its stdout and stderr."""

    def run(name, *arguments, timeout=240):
        done = subprocess.run(
            [sys.executable, DRIVERS / f"{name}.py", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def good(mx, nets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    assert mx("export", nets("traps", "counter_twin"), "-t", "onnx", "-o", folder, "--name", "net").code == 0
    return folder / "net.onnx"


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _bytes(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------ kill -9


@LINUX
def test_killed_writers_leave_whole_artifacts_only(drive, tmp_path):
    seen = json.loads(drive("kill_publish", tmp_path, 4).stdout)
    assert seen["kills"] >= 50, seen
    assert seen["drafts"] >= 10, f"kills must land while a draft exists: {seen}"
    assert seen["whole"] >= 10, seen
    assert seen["absent"] >= 5, seen
    assert seen["moved aside"] == seen["restored"] == 0, "the two are exchanged, so nothing is ever moved aside"


def test_killed_writers_where_directories_cannot_be_exchanged(drive, tmp_path):
    seen = json.loads(drive("kill_publish", tmp_path, 4, "fallback").stdout)
    assert seen["kills"] >= 50, seen
    assert seen["moved aside"] >= 1, f"kills must land while the old artifact is aside: {seen}"


def test_writers_at_the_same_place_at_the_same_time(drive, tmp_path):
    drive("race_publish", tmp_path, 4, 60)
    assert _names(tmp_path) == ["net.onnx"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--no-verify",)], ids=["verify", "no-verify"])
def test_killed_exports(drive, tmp_path, nets, more):
    """25 kills over the whole of the run, in turn with nothing there and with an artifact to replace."""
    out = drive("kill_export", nets("traps", "counter_twin"), tmp_path, 25, *more).stdout
    seen = json.loads(out.strip().splitlines()[-1])
    assert seen["killed"] + seen["finished"] == 25
    assert seen["killed"] >= 10, seen
    assert seen["leftovers"] >= 5, f"kills must land while a draft exists: {seen}"


@pytest.mark.slow
def test_killed_process(tmp_path, nets, mx):
    """The command as a user starts it: it is killed once its draft is there, once while it still imports."""
    command = [Path(sys.executable).with_name("mx"), "export", nets("traps", "counter_twin"), "-t", "onnx"]
    command += ["-o", tmp_path, "--name", "net"]
    for wait_for_draft in (False, True):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
        while wait_for_draft and not list(tmp_path.glob(".net.onnx.*")):
            assert process.poll() is None, "it ended without a draft"
        process.kill()
        process.wait()
        assert not (tmp_path / "net.onnx").exists()
        assert len(list(tmp_path.glob(".net.onnx.*.tmp"))) == wait_for_draft
    result = mx(*command[1:])
    assert result.code == 0, result.err
    assert _names(tmp_path) == ["net.onnx"]


def _dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_artifact_that_a_killed_run_moved_aside_is_brought_back(good, tmp_path):
    from modelexport.store import manifest, staging

    final, pid = tmp_path / "net.onnx", _dead_pid()
    shutil.copytree(good, tmp_path / f".net.onnx.{pid}.abc.old")
    shutil.copytree(good, tmp_path / f".net.onnx.{pid}.abc.tmp")
    with pytest.raises(RuntimeError, match="converter"), staging.staged(final):
        raise RuntimeError("the converter fails")
    assert manifest.read(final).format == "onnx"
    assert _names(tmp_path) == ["net.onnx"]


def test_drafts_of_living_runs_are_left_alone(tmp_path):
    from modelexport.store import staging

    mine = tmp_path / f".net.onnx.{os.getpid()}.abc.tmp"
    other = tmp_path / f".net.{_dead_pid()}.abc.tmp"
    strangers = [tmp_path / ".net.onnx.notes.tmp", tmp_path / ".net.onnx.123"]
    for path in (mine, other, *strangers):
        path.mkdir()
    with staging.staged(tmp_path / "net.onnx"):
        pass
    assert all(path.is_dir() for path in (mine, other, *strangers))
    with staging.staged(tmp_path / "net"):
        pass
    assert not other.exists()


# ------------------------------------------------------------------ full disk


@pytest.mark.slow
@pytest.mark.parametrize("existing", [False, True], ids=["nothing-there", "artifact-there"])
def test_full_disk_at_every_file(existing, drive, tmp_path, nets, good):
    """Limits from below the smallest file to below the largest: a clean refusal at each; then enough for all."""
    sizes = sorted({path.stat().st_size for path in good.iterdir()})
    limits = [0, 100, *(size - 1 for size in sizes)]
    if existing:
        shutil.copytree(good, tmp_path / "net.onnx")
    before = _bytes(tmp_path)
    limits += [] if existing else [1_000_000]
    found = json.loads(drive("file_limit", nets("traps", "counter_twin"), tmp_path, "onnx", *limits).stderr)
    for limit, code, said, names in found[: 2 + len(sizes)]:
        assert code == 7, (limit, code, said)
        assert said.startswith("error: can't write "), said
        assert len(said.strip().splitlines()) == 2, said
        assert names == (["net.onnx"] if existing else []), (limit, names)
    if existing:
        shutil.rmtree(tmp_path / ".warm")
        assert _bytes(tmp_path) == before
    else:
        assert found[-1][1] == 0, found[-1]
        assert found[-1][3] == ["net.onnx"]


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_disk_that_is_really_full(tiny_disk, mx, nets):
    result = mx("export", nets("traps", "wide"), "-t", "onnx", "-o", tiny_disk)
    assert result.code == 7, result.err
    assert os.strerror(errno.ENOSPC) in result.error
    assert "free some space" in result.hint
    assert _names(tiny_disk) == []
    assert mx("export", nets("traps", "counter_twin"), "-t", "onnx", "-o", tiny_disk).code == 0


# ------------------------------------------------------------------ places


def test_place_below_a_file(mx, nets, tmp_path):
    (tmp_path / "file").write_text("mine")
    result = mx("export", nets("traps", "counter_twin"), "-t", "onnx", "-o", tmp_path / "file" / "build")
    assert result.code == 7
    assert str(tmp_path / "file") in result.error
    assert (tmp_path / "file").read_text() == "mine"


@LINUX
def test_place_that_cannot_be_written(mx, nets):
    result = mx("export", nets("traps", "counter_twin"), "-t", "onnx", "-o", "/proc/build")
    assert result.code == 7
    assert "/proc" in result.error


@pytest.mark.parametrize("name", ["net.onnx", "net.onnx.failed"])
def test_folder_of_the_users_is_refused_and_untouched(name, mx, nets, tmp_path):
    """Before any work: neither the artifact nor a failed one may take the place of what is not an artifact."""
    (tmp_path / name / "sub").mkdir(parents=True)
    (tmp_path / name / "sub" / "notes.txt").write_text("mine")
    before = _bytes(tmp_path)
    result = mx("export", nets("traps", "size_one"), "-t", "onnx", "-o", tmp_path, "--name", "net")
    assert result.code == 7
    assert f"{tmp_path / name} is there and is not an artifact" in result.error
    assert _bytes(tmp_path) == before
    assert _names(tmp_path) == [name]


def test_folder_that_appears_during_the_work_is_not_replaced(tmp_path):
    from modelexport.errors import OutputError
    from modelexport.store import staging

    final = tmp_path / "net.onnx"
    with pytest.raises(OutputError, match="is not an artifact"), staging.staged(final) as draft:
        (draft / "model.onnx").write_bytes(b"new")
        final.mkdir()
        (final / "notes.txt").write_text("mine")
        staging.publish(draft, final)
    assert _bytes(tmp_path) == {"net.onnx/notes.txt": b"mine"}


def test_file_at_the_place_is_refused(mx, nets, tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"a model")
    result = mx("export", nets("traps", "counter_twin"), "-t", "onnx", "-o", tmp_path, "--name", "net")
    assert result.code == 7
    assert (tmp_path / "net.onnx").read_bytes() == b"a model"


def test_empty_folder_at_the_place_is_used(mx, nets, tmp_path):
    (tmp_path / "net.onnx").mkdir()
    assert mx("export", nets("traps", "counter_twin"), "-t", "onnx", "-o", tmp_path, "--name", "net").code == 0
    assert (tmp_path / "net.onnx" / "manifest.json").is_file()


def test_failed_export_leaves_the_artifact_that_was_there(good, mx, nets, tmp_path, read_manifest):
    shutil.copytree(good, tmp_path / "net.onnx")
    before = _bytes(tmp_path)
    for _ in range(2):  # the second failure replaces the first one's folder
        result = mx("export", nets("traps", "size_one"), "-t", "onnx", "-o", tmp_path, "--name", "net")
        assert result.code == 3
        assert _names(tmp_path) == ["net.onnx", "net.onnx.failed"]
        assert _bytes(tmp_path / "net.onnx") == {Path(k).name: v for k, v in before.items()}
        assert read_manifest(tmp_path / "net.onnx.failed")["verified"] is False


def test_success_replaces_the_artifact_that_was_there(good, mx, nets, tmp_path, read_manifest):
    shutil.copytree(good, tmp_path / "net.onnx")
    assert mx("export", nets("traps", "size_one_twin"), "-t", "onnx", "-o", tmp_path, "--name", "net").code == 0
    assert _names(tmp_path) == ["net.onnx"]
    assert "size_one_twin" in read_manifest(tmp_path / "net.onnx")["lineage"][0]["source"]["ref"]


def test_link_at_the_place_is_replaced_and_its_target_kept(good, mx, nets, tmp_path):
    shutil.copytree(good, tmp_path / "version1")
    before = _bytes(tmp_path / "version1")
    (tmp_path / "net.onnx").symlink_to("version1")
    assert mx("export", nets("traps", "size_one_twin"), "-t", "onnx", "-o", tmp_path, "--name", "net").code == 0
    assert _names(tmp_path) == ["net.onnx", "version1"]
    assert _bytes(tmp_path / "version1") == before
    assert not (tmp_path / "net.onnx").is_symlink()


def test_manifest_is_written_in_one_step(good, tmp_path, mx, read_manifest):
    """`mx verify` where the manifest can't be replaced: the old one stays whole."""
    copy = shutil.copytree(good, tmp_path / "net.onnx")
    before = (copy / "manifest.json").read_bytes()
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100));"
        "from modelexport import cli; sys.exit(cli._run(['verify', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", script, copy], capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    assert (copy / "manifest.json").read_bytes() == before
    assert mx("verify", copy).code == 0
    assert read_manifest(copy)["verified"] is True
    assert _names(copy) == _names(good)
