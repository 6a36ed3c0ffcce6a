"""ONNX Runtime behind a session: answers are the caller's own, options are passed on, and files are sources."""

from pathlib import Path

import modelexport as mx
import numpy as np
import pytest
from modelexport.errors import OptionError, SourceError

NETS = Path(__file__).parents[1] / "nets"
X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    (made,) = mx.export(f"{NETS / 'shapes.py'}:line", "onnx", tmp_path_factory.mktemp("line"))
    return made


@pytest.fixture(scope="module")
def wanted():
    """What the model itself answers."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    with torch.no_grad():
        return torch.nn.Linear(4, 3)(torch.from_numpy(X)).numpy()


# --------------------------------------------------------------------------------------- answers


def test_it_answers_any_number_of_times(artifact, wanted):
    with mx.run(artifact.path) as session:
        assert [str(spec) for spec in session.inputs] == ["input:float32[batch=1..8,4]"]
        first = session({"input": X})["output"]
        kept = first.copy()
        second = session({"input": -X})["output"]
        assert np.array_equal(first, kept), "an answer is not overwritten by the next call"
        assert not np.array_equal(first, second)
        assert session({"input": X[:1]})["output"].shape == (1, 3)
    assert first.dtype == np.float32
    assert np.allclose(first, wanted, atol=1e-6)


def test_it_does_not_change_its_inputs(artifact):
    given = X.copy()
    with mx.run(artifact.path) as session:
        session({"input": given})
    assert np.array_equal(given, X)


def test_it_takes_arrays_of_any_layout(artifact, wanted):
    with mx.run(artifact.path, {"threads": 1}) as session:
        for array in (np.asfortranarray(X), np.repeat(X, 2, 1)[:, ::2], X[::-1][::-1]):
            assert np.allclose(session({"input": array})["output"], wanted, atol=1e-6)


# --------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"thread": "2"}, ["'thread'", "did you mean 'threads'?"]),
        ({"providers": "warp"}, ["'warp'", "cpu"]),
        ({"threads": "many"}, ["threads=many", "a whole number"]),
    ],
    ids=str,
)
def test_options_that_make_no_sense(artifact, options, facts):
    with pytest.raises(OptionError) as caught:
        mx.run(artifact.path, options)
    assert all(fact in f"{caught.value.message} {caught.value.hint}" for fact in facts)


@pytest.mark.parametrize(("given", "threads"), [({}, 1), ({"optimization": "none", "threads": 2}, 2)], ids=str)
def test_threads_of_a_benchmark_are_pinned_unless_given(artifact, given, threads):
    (figures,) = mx.benchmark(artifact.path, runs=1, seconds=0, threads=1, options=given).figures
    assert figures.details["threads"] == threads


# --------------------------------------------------------------------------------------- existing files


def test_an_existing_file_is_adopted_as_it_is(artifact, wanted, tmp_path):
    file = tmp_path / "theirs.onnx"
    file.write_bytes(artifact.entry_path.read_bytes())
    (made,) = mx.export(file, "onnx", tmp_path / "out")
    assert made.path.name == "theirs.onnx"
    assert made.parity.verified is True
    assert made.entry_path.read_bytes() == file.read_bytes()
    assert [spec.name for spec in made.inputs] == ["input"]
    with mx.run(made.path) as session:
        assert np.allclose(session({"input": X})["output"], wanted, atol=1e-6)


def test_its_dims_are_not_narrowed(artifact, tmp_path):
    with pytest.raises(OptionError, match="PyTorch models"):
        mx.export(artifact.entry_path, "onnx", tmp_path, dims=["batch=2"])


def test_a_file_that_is_missing_or_damaged(tmp_path):
    with pytest.raises(SourceError, match=r"no file .*gone\.onnx"):
        mx.export(tmp_path / "gone.onnx", "onnx", tmp_path / "out")
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x07not a model")
    with pytest.raises(SourceError, match=r"bad\.onnx.*no ONNX model"):
        mx.export(tmp_path / "bad.onnx", "onnx", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))
