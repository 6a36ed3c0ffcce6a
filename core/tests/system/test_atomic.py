"""A run that is killed, or whose disk fills, leaves nothing that looks finished and harms nothing."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import modelexport
import pytest
from modelexport.errors import OutputError, RuntimeFailure

pytestmark = pytest.mark.usefixtures("toys")

DRIVERS = Path(__file__).parents[1] / "drivers"
MX = Path(sys.executable).with_name("mx")


@pytest.fixture
def drive():
    """Run one of the drivers; gives its stdout and stderr."""

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


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _bytes(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --------------------------------------------------------------------------------------- kill -9


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="renameat2 is Linux's")
def test_killed_writers_leave_whole_artifacts_only(drive, tmp_path):
    seen = json.loads(drive("kill_publish", tmp_path, 4).stdout)
    assert seen["kills"] >= 25, seen
    assert seen["drafts"] >= 10, f"kills must land while a draft exists: {seen}"
    assert seen["whole"] >= 10, seen
    assert seen["absent"] >= 5, seen
    assert seen["moved aside"] == seen["restored"] == 0, "the two are exchanged, so nothing is ever moved aside"


def test_killed_writers_where_directories_cannot_be_exchanged(drive, tmp_path):
    seen = json.loads(drive("kill_publish", tmp_path, 4, "fallback").stdout)
    assert seen["kills"] >= 25, seen
    assert seen["moved aside"] >= 1, f"kills must land while the old artifact is aside: {seen}"


def test_writers_at_the_same_place_at_the_same_time(drive, tmp_path):
    drive("race_publish", tmp_path, 4, 60)
    assert _names(tmp_path) == ["net.toy"]


@pytest.mark.parametrize("more", [(), ("--no-verify",)], ids=["verify", "no-verify"])
def test_killed_exports(drive, tmp_path, nets, more):
    """25 kills over the whole of the run, in turn with nothing there and with an artifact to replace."""
    out = drive("kill_export", nets("traps", "counter_twin"), tmp_path, 25, *more).stdout
    seen = json.loads(out.strip().splitlines()[-1])
    assert seen["killed"] + seen["finished"] == 25
    assert seen["killed"] >= 10, seen
    assert seen["leftovers"] >= 5, f"kills must land while a draft exists: {seen}"


def test_killed_process(tmp_path, nets, mx):
    """The command as a user starts it: it is killed once its draft is there, once while it still imports."""
    command = [MX, "export", nets("traps", "counter_twin"), "-t", "tape", "-o", tmp_path, "--name", "net"]
    for wait_for_draft in (False, True):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
        while wait_for_draft and not list(tmp_path.glob(".net.tape.*")):
            assert process.poll() is None, "it ended without a draft"
        process.kill()
        process.wait()
        assert not (tmp_path / "net.tape").exists()
        assert len(list(tmp_path.glob(".net.tape.*.tmp"))) == wait_for_draft
    result = mx(*command[1:])
    assert result.code == 0, result.err
    assert _names(tmp_path) == ["net.tape"]


@pytest.mark.parametrize("step", ["export rounder", "optimize rounder", "quantize rounder", "export packer"])
def test_a_chain_that_is_killed_in_the_middle_leaves_the_old_one(step, rounded, mx, tmp_path):
    """Of all its steps, whichever it was killed in; and the next run finishes it and clears up."""
    build, source = tmp_path / "build", shutil.copy(rounded / "net.py", tmp_path)
    command = ["export", f"{source}:net", "-t", "rounder", "-t", "packer", "--precision", "int8", "-o", build]
    assert mx(*command).code == 0
    before = _bytes(build)
    assert {name.partition("/")[0] for name in before} == {
        "net.rounder", "net.optimized.rounder", "net.int8.rounder", "net.int8.packer",
    }  # fmt: skip
    Path(source).write_text(Path(source).read_text().replace("manual_seed(3)", "manual_seed(4)"))
    killed = subprocess.run([MX, *command], env={**os.environ, "TOY_KILLED": step}, capture_output=True)
    assert killed.returncode == RuntimeFailure.exit_code, killed.stderr
    assert b"was killed (SIGKILL)" in killed.stderr
    assert _bytes(build) == before, "the process that waited for the one that was killed clears up"
    done = mx(*command)
    assert (done.code, "reused" in done.out) == (0, False), done.err
    final = _bytes(build)
    assert set(final) == set(before)
    assert all(final[name] != before[name] for name in before if name.endswith("golden.npz"))


# --------------------------------------------------------------------------------------- full disk


@pytest.mark.parametrize("existing", [False, True], ids=["nothing-there", "artifact-there"])
def test_full_disk_at_every_file(existing, drive, tmp_path, nets, mx):
    """Limits from below the smallest file to below the largest: a clean refusal at each; then enough for all."""
    assert mx("export", nets("traps", "wide"), "-t", "tape", "-o", tmp_path / "good").code == 0
    good = tmp_path / "good" / "wide.tape"
    sizes = sorted({path.stat().st_size for path in good.iterdir()})
    limits = [0, 100, *(size - 1 for size in sizes)]
    place = tmp_path / "place"
    place.mkdir()
    if existing:
        shutil.copytree(good, place / "net.tape")
    before = _bytes(place)
    limits += [] if existing else [10_000_000]
    found = json.loads(drive("file_limit", nets("traps", "wide"), place, "tape", *limits).stderr)
    for limit, code, said, names in found[: 2 + len(sizes)]:
        assert code == 7, (limit, code, said)
        assert said.startswith("error: can't write "), said
        assert len(said.strip().splitlines()) == 2, said
        assert names == (["net.tape"] if existing else []), (limit, names)
    if existing:
        shutil.rmtree(place / ".warm")
        assert _bytes(place) == before
    else:
        assert found[-1][1] == 0, found[-1]
        assert found[-1][3] == ["net.tape"]


#: under a limit, Python keeps half of a module that it compiles (https://github.com/python/cpython/issues/126606)
COMPILE_NOTHING = {"PYTHONDONTWRITEBYTECODE": "1"}


@contextlib.contextmanager
def largest_file(limit, monkeypatch):
    """No file of this process may grow beyond the limit."""
    import resource

    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("limit", [200, 1500], ids=["reference", "golden"])
def test_a_full_disk_while_quantizing(rounded, limit, tmp_path, monkeypatch):
    """The reference answers do not fit, or the golden data."""
    source = shutil.copytree(rounded / "net.rounder", tmp_path / "net.rounder")
    before = _bytes(tmp_path)
    with largest_file(limit, monkeypatch), pytest.raises(OutputError, match="can't write"):
        modelexport.quantize(source)
    assert _bytes(tmp_path) == before
    assert _names(tmp_path) == ["net.rounder"]


def test_manifest_is_written_in_one_step(copy, mx, read_manifest):
    """`mx verify` where the manifest can't be replaced: the old one stays whole."""
    before, names = (copy / "manifest.json").read_bytes(), _names(copy)
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100));"
        "from modelexport import cli; sys.exit(cli._run(['verify', sys.argv[1]]))"
    )
    command, environment = [sys.executable, "-c", script, copy], {**os.environ, **COMPILE_NOTHING}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 7, done.stderr
    assert (copy / "manifest.json").read_bytes() == before
    assert mx("verify", copy).code == 0
    assert read_manifest(copy)["verified"] is True
    assert _names(copy) == names


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
    result = mx("export", nets("traps", "wide"), "-t", "tape", "-o", tiny_disk)
    assert result.code == 7, result.err
    assert os.strerror(errno.ENOSPC) in result.error
    assert "free some space" in result.hint
    assert _names(tiny_disk) == []
    assert mx("export", nets("traps", "counter_twin"), "-t", "tape", "-o", tiny_disk).code == 0


# --------------------------------------------------------------------------------------- readers beside a writer


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="folders are locked and exchanged on Linux")
def test_readers_beside_a_writer_see_one_version(drive, tmp_path):
    """None calls a good artifact wrong or damaged, none waits for ever, and the writer gets its turn."""
    for seed, name in enumerate(("one", "two")):
        source = tmp_path / name / "net.py"
        source.parent.mkdir()
        source.write_text(SEEDED.format(seed=seed))
        modelexport.export(f"{source}:net", "tape", source.parent)
    one, two = (tmp_path / name / "net.tape" for name in ("one", "two"))
    assert (one / "model.tape").read_bytes() != (two / "model.tape").read_bytes()
    least = {"replaced": 10, "verified": 2, "run": 10, "read": 10}
    for seconds in (6, 60):  # where the machine is busy with other things, once more and longer
        beside = tmp_path / f"beside-{seconds}"
        beside.mkdir()
        seen = json.loads(drive("readers", beside, one, two, seconds, 3).stdout)
        if all(seen[what] >= count for what, count in least.items()):
            break
    else:
        pytest.fail(f"too little happened: {seen}")


SEEDED = """
import torch
from modelexport import Source

def net():
    torch.manual_seed({seed})
    return Source(torch.nn.Linear(8, 4), inputs=("x:float32[batch=1..8,8]",))
"""


# --------------------------------------------------------------------------------------- commands that are stopped


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the driver looks into /proc")
@pytest.mark.parametrize("verb", ["export", "quantize", "optimize"])
def test_a_command_that_is_stopped_leaves_nothing(drive, rounded, tmp_path, verb):
    """SIGTERM, SIGHUP and Ctrl-C leave no file and no process; what SIGKILL leaves, the next run removes."""
    build, source = tmp_path / "build", rounded / "net.rounder"
    command = {
        "export": ["export", f"{rounded / 'net.py'}:net", "-t", "rounder", "-o", build, "--name", "out"],
        "quantize": ["quantize", source, "-o", build / "out.rounder"],
        "optimize": ["optimize", source, "-o", build / "out.rounder"],
    }[verb]
    stops = "SIGTERM,SIGKILL,SIGINT,SIGHUP"
    seen = json.loads(drive("stop", tmp_path, 8, stops, build / "out.rounder", *command).stdout)
    assert seen["finished"] <= 4, seen
    assert seen["SIGKILL"] >= 1, seen
