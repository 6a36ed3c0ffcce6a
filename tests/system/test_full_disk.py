"""A disk that fills while a real converter writes: what its library raises is told as what it is."""

import errno
import json
import os
import shutil
import subprocess
import sys

import pytest

from core.tests.conftest import HERE

OUTPUT = 7


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_at_every_file(tmp_path, nets, mx):
    """Limits from below the smallest file to below the largest: a clean refusal at each; then enough for all."""
    source = nets("traps", "counter_twin")
    assert mx("export", source, "-t", "onnx", "-o", tmp_path / "good").code == 0
    sizes = sorted({path.stat().st_size for path in (tmp_path / "good" / "counter_twin.onnx").iterdir()})
    limits = [0, 100, *(size - 1 for size in sizes), 1_000_000]
    (tmp_path / "place").mkdir()
    driver = [sys.executable, HERE / "drivers" / "file_limit.py", source, tmp_path / "place", "onnx"]
    done = subprocess.run([*driver, *map(str, limits)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    *refusals, (_, last_code, last_said, last_names) = json.loads(done.stderr)
    for limit, code, said, names in refusals:
        assert code == OUTPUT, (limit, code, said)
        assert said.startswith("error: can't write "), said
        assert len(said.strip().splitlines()) == 2, said
        assert names == [], limit
    assert (last_code, last_names) == (0, ["net.onnx"]), last_said


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
