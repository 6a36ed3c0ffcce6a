"""Programs on ExecuTorch's runtime: state, threads, damaged files, and programs by others."""

import subprocess
import sys

import modelexport
import numpy as np
import pytest
from modelexport import api
from modelexport.errors import OptionError, RuntimeFailure, SourceError


def test_state_begins_as_it_was_and_is_kept_between_calls(make, nets):
    artifact = make(nets.Counter(), "x:float32[2]", verify=True)
    x = {"x": np.ones(2, np.float32)}
    for _ in range(2):
        with api.run(artifact.path) as session:
            assert [float(session(x)["output"][0]) for _ in range(3)] == [4, 5, 6]


@pytest.fixture(scope="module")
def linear(make, torch):
    return make(torch.nn.Linear(3, 2), "input:float32[1,3]")


@pytest.mark.parametrize(
    ("damage", "said"), [(b"not a program" * 20, "lacks the mark ET12"), (b"", "is damaged: it is empty")]
)
def test_a_damaged_file_is_a_runtime_failure(linear, tmp_path, damage, said, capfd):
    from modelexport_executorch import files

    path = tmp_path / linear.entry
    path.write_bytes(damage)
    with pytest.raises(RuntimeFailure, match=said):
        files.load(path)
    assert capfd.readouterr().err == ""


def test_threads_are_the_pools(cnn):
    with api.run(cnn.path, {"threads": "1"}) as session:
        assert session.details["threads"] == 1


def test_the_pool_is_resized_under_no_open_program(cnn):
    """XNNPACK calls through the pool that it was loaded with: one resized later was freed memory."""
    image = np.random.default_rng(2).standard_normal((5, 3, 16, 16)).astype(np.float32)
    with api.run(cnn.path, {"threads": "2"}) as first:
        (before,) = first({"image": image}).values()
        with pytest.raises(OptionError, match=r"threads=1: programs that use the runtime's 2 threads are open"):
            api.run(cnn.path, {"threads": "1"})
        with api.run(cnn.path, {"threads": "2"}) as same:
            np.testing.assert_array_equal(*same({"image": image}).values(), before)
        np.testing.assert_array_equal(*first({"image": image}).values(), before)
    with api.run(cnn.path, {"threads": "1"}) as later:
        assert later.details["threads"] == 1
        np.testing.assert_allclose(*later({"image": image}).values(), before, rtol=1e-5, atol=1e-6)


def test_sizes_change_often_on_a_pool_of_another_size(make, torch):
    """In a process of its own, which it would end: a pool resized after the load crashed or hung 6 times of 8."""
    net = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 64))
    artifact = make(net, "x:float32[batch=1..64,64]")
    code = f"""
import numpy as np, modelexport
with modelexport.run({str(artifact.path)!r}, {{"threads": "1"}}) as session:
    for turn in range(400):
        session({{"x": np.ones((1 + turn % 64, 64), np.float32)}})
        [bytearray(size * 7 + turn) for size in range(200)]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_existing_program_is_a_source(cnn, answers, tmp_path):
    theirs = tmp_path / "theirs.pte"
    theirs.write_bytes(cnn.entry_path.read_bytes())
    (artifact,) = modelexport.export(
        theirs, "executorch", tmp_path / "out", inputs=["picture:float32[batch=1..64,3,16,16]"], verify=False
    )
    assert artifact.entry_path.read_bytes() == theirs.read_bytes()
    assert artifact.details["kernels"] == cnn.details["kernels"]
    image = np.random.default_rng(1).standard_normal((5, 3, 16, 16)).astype(np.float32)
    (expected,) = answers(cnn, image=image).values()
    np.testing.assert_array_equal(answers(artifact, picture=image)["output_0"], expected)


def test_a_damaged_source_is_named_with_what_the_runtime_says(tmp_path):
    path = tmp_path / "theirs.pte"
    path.write_bytes(b"not a program" * 20)
    with pytest.raises(SourceError, match=r"theirs\.pte is no ExecuTorch program: it lacks the mark ET12"):
        modelexport.export(path, "executorch", tmp_path / "out", verify=False)


def test_declared_inputs_must_be_those_of_the_program(linear, tmp_path):
    with pytest.raises(SourceError, match=r"takes other inputs than declared.*input_0:float32\[1,3\]"):
        modelexport.export(
            linear.entry_path, "executorch", tmp_path / "out", inputs=["x:float32[3]"], verify=False
        )
    with pytest.raises(OptionError, match="can't read the input declaration"):
        modelexport.export(linear.entry_path, "executorch", tmp_path / "out", inputs=["x"], verify=False)
