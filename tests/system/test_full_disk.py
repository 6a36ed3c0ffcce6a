"""A disk that fills while a real converter writes: what its library raises is told as what it is."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys

import pytest

from core.tests.conftest import HERE

OUTPUT = 7


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


#: under a limit, Python keeps half of a module that it compiles (https://github.com/python/cpython/issues/126606)
COMPILE_NOTHING = {"PYTHONDONTWRITEBYTECODE": "1"}

#: files that every target has, which one of them is enough to try
OWN = {"manifest.json", "golden.npz"}


@pytest.mark.parametrize("target", ["onnx", "torchscript", "executorch", "coreml", "captured"])
def test_at_every_file(target, tmp_path, nets, mx):
    """Limits from below the smallest file to below the largest: a clean refusal at each; then enough for all."""
    source = nets("traps", "counter_twin")
    limits = [0, *_limits(target, source, tmp_path, mx), 10_000_000]
    (tmp_path / "place").mkdir()
    driver = [sys.executable, HERE / "drivers" / "file_limit.py", source, tmp_path / "place", target]
    done = subprocess.run([*driver, *map(str, limits)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    *refusals, (_, last_code, last_said, last_names) = json.loads(done.stderr.splitlines()[-1])
    for limit, code, said, names in refusals:
        _check_refused(limit, code, said)
        assert names == [], limit
    assert (last_code, last_names) == (0, [f"net.{target}"]), last_said


def test_at_the_file_of_a_target_that_can_not_be_forked(tmp_path, nets, mx):
    """JAX has threads by the time that the driver would fork: a command of its own for each limit."""
    source = nets("traps", "counter_twin")
    for limit in _limits("tflite", source, tmp_path, mx):
        (tmp_path / "place").mkdir(exist_ok=True)
        command = [
            sys.executable,
            "-c",
            "from modelexport.cli import main; main()",
            "export",
            source,
            "-t",
            "tflite",
            "-o",
            tmp_path / "place",
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=240, env={**os.environ, **COMPILE_NOTHING},
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )  # fmt: skip
        _check_refused(limit, done.returncode, done.stderr)
        assert _names(tmp_path / "place") == [], limit


def _limits(target, source, folder, mx):
    """A byte less than each file of the target's needs; of those that all targets have, for one of them."""
    assert mx("export", source, "-t", target, "-o", folder / "good", "--no-verify").code == 0
    files = [path for path in (folder / "good" / f"counter_twin.{target}").rglob("*") if path.is_file()]
    return sorted({path.stat().st_size - 1 for path in files if target == "onnx" or path.name not in OWN})


def _check_refused(limit, code, said):
    assert code == OUTPUT, (limit, code, said)
    assert said.startswith("error: can't write "), said
    assert len(said.strip().splitlines()) == 2, said


def test_on_a_disk_of_64_kb(tmp_path, mx, nets):
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        result = mx("export", nets("traps", "wide"), "-t", "onnx", "-o", place)
        assert result.code == OUTPUT, result.err
        assert os.strerror(errno.ENOSPC) in result.error
        assert "free some space" in result.hint
        assert _names(place) == []
        assert mx("export", nets("traps", "counter_twin"), "-t", "onnx", "-o", place).code == 0
    finally:
        subprocess.run(["umount", place], check=True)
