"""Arrays go into a method by position and come out by name; references that are no programs are left to others."""

import numpy as np
import pytest
from modelexport.contract import LoadOptions
from modelexport.errors import RuntimeFailure, SourceError
from modelexport_executorch import backend, mx_load


@pytest.fixture
def caller(torch):
    from modelexport_executorch import session

    return session.caller


def test_arrays_of_any_layout_go_in_by_position(caller):
    def method(tensors, clone):
        assert clone
        return [tensors[0] - tensors[1], tensors[1]]

    a, b = np.arange(6, dtype=np.float32).reshape(2, 3).T, np.ones((3, 2), np.float32)
    b.flags.writeable = False
    outputs = caller(method, ["a", "b"], ["difference", "same"])({"b": b, "a": a})
    assert list(outputs) == ["difference", "same"]
    np.testing.assert_array_equal(outputs["difference"], a - 1)


def test_bfloat16_goes_in_and_out(caller):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.array([1.5, -2.0]).astype(ml_dtypes.bfloat16)
    outputs = caller(lambda tensors, clone: [tensors[0] * 2], ["x"], ["y"])({"x": x})
    assert outputs["y"].dtype == x.dtype
    assert outputs["y"].astype(float).tolist() == [3.0, -4.0]


def test_what_the_runtime_raises_is_a_runtime_failure(caller):
    def method(tensors, clone):
        raise RuntimeError("resize failed\nsomewhere")

    with pytest.raises(RuntimeFailure, match="ExecuTorch failed: resize failed"):
        caller(method, ["x"], ["y"])({"x": np.ones(1, np.float32)})


def test_the_first_complaint_of_the_runtime_counts(capfd):
    import sys

    with backend.overheard() as lines:
        print("Error in cpuinfo: no such file", file=sys.stderr)
        print("[program.cpp:10] wrong identifier", file=sys.stderr)
        print("[method.cpp:20] can't load", file=sys.stderr)
    assert backend.complaint(lines) == "wrong identifier"
    assert backend.complaint([]) == ""
    assert capfd.readouterr().err == ""


def test_other_references_are_left_to_others(tmp_path):
    assert mx_load("nets.py:net", LoadOptions()) is None
    assert mx_load("model.pt", LoadOptions()) is None
    with pytest.raises(SourceError, match=r"no file .*gone\.pte.*give the path of a \.pte file"):
        mx_load(str(tmp_path / "gone.pte"), LoadOptions())
