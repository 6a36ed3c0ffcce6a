"""With little memory, what is too large is said to be: no trace, no internal error, no hang."""

import numpy as np
import pytest

from core.tests.fuzz import evil
from core.tests.unit.cli.conftest import INPUT
from core.tests.unit.cli.test_hostile_data import trust

pytestmark = pytest.mark.usefixtures("toys")

GIB = 1 << 30


@pytest.fixture
def limited(mx_process):
    """Run `mx` in a process with so much address space."""
    import resource

    def run(*arguments, space=2 * GIB):
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (space, space))

        return mx_process(*arguments, preexec_fn=limit)

    return run


def test_what_fits_is_run(limited, artifact):
    result = limited("run", artifact, "--input", "x=1", "--input", "ids=1")
    assert (result.code, result.err) == (0, "")


def test_arrays_that_do_not_fit(limited, artifact, tmp_path):
    with (tmp_path / "x.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (3 << 28,)})
        stream.truncate(stream.tell() + (3 << 30))
    for command in (
        ["run", artifact, "--input", "ids=1", "--input", f"x={tmp_path / 'x.npy'}"],
        ["run", artifact, "--input", "ids=1", "--input", f"x={tmp_path / 'x.npy'}", "--debug"],
    ):
        result = limited(*command)
        assert result.code == 1
        assert "error: out of memory: " in result.err
        assert "ulimit -v" in result.err
        assert "internal error" not in result.err
        assert ("Traceback" in result.err) == ("--debug" in command)


def test_a_process_of_its_own_says_so_too(limited, copy):
    """The gate's child has less than it needs for the golden data."""
    evil.bomb(1_000_000_000, 1)(copy / "golden.npz")
    trust(copy, "golden.npz")
    result = limited("verify", copy, space=800 << 20)
    assert (result.code, result.error.partition(":")[0]) == (1, "out of memory")


@pytest.mark.parametrize("lines", [1, 100_000])
def test_texts_are_read_a_line_at_a_time(limited, artifact, tmp_path, lines):
    (tmp_path / "x.txt").write_bytes((b"a" * (100_000_000 // lines) + b"\n") * lines)
    result = limited("quantize", artifact, "--calibration", tmp_path / "x.txt", space=GIB)
    assert result.code == INPUT
    assert "out of memory" not in result.err
