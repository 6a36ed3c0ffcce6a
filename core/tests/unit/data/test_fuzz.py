"""Good files with a few bytes changed: each gives data, or one error that says what is wrong."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from core.tests.fuzz import inputs


@pytest.mark.parametrize("kind", inputs.READERS)
def test_whatever_a_file_holds(tmp_path, kind):
    assert inputs.fuzz(150, seed=0, folder=tmp_path, only=kind, keep=tmp_path) == []


@pytest.mark.parametrize("kind", inputs.READERS)
def test_the_files_that_are_changed_are_good(tmp_path, kind):
    suffix, read = inputs.READERS[kind]
    for content in inputs.seeds()[kind]:
        (tmp_path / f"x{suffix}").write_bytes(content)
        read(tmp_path / f"x{suffix}")


def empty(path):
    [].pop()


def large(path):
    bytes(4 << 30)


def endless(path):
    while True:
        pass


@pytest.mark.parametrize(
    ("read", "harm"),
    [(empty, "IndexError at .*: pop from empty"), (large, "MemoryError"), (endless, "TooLongError")],
)
def test_harm_is_noticed(tmp_path, read, harm):
    assert re.match(harm, inputs.harm_of(read, tmp_path, seconds=1))


def test_it_runs_by_itself(tmp_path):
    script = Path(inputs.__file__)
    command = [sys.executable, script, "--count", "30", "--seed", "3", "--only", "npz"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stdout) == (0, "30 files, 0 did harm\n"), done.stderr
