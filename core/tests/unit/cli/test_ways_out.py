"""Where something close to what a command takes was given, it says the way from one to the other."""

import shutil

import pytest

from core.tests.unit.cli.conftest import ARTIFACT, SOURCE

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def test_a_whole_model_that_was_pickled_is_told_from_weights(refused, place, torch):
    model = torch.nn.Sequential(torch.nn.Linear(4, 2))
    torch.save(model, place / "whole.pt")
    said = refused(["export", "@whole.pt", "-t", "tape"], SOURCE, "whole.pt is a whole model that was pickled")
    assert "torch.load('whole.pt', weights_only=False)" in said.hint
    torch.save(model.state_dict(), place / "state.pt")
    said = refused(["export", "@state.pt", "-t", "tape"], SOURCE, "state.pt holds weights, not a model")
    assert "--weights" in said.hint


def test_what_may_be_the_id_of_a_hub_is_told_how_it_is_fetched(refused):
    said = refused(["export", "bert-base-uncased", "-t", "tape"], SOURCE, "no model at 'bert-base-uncased'")
    assert "--allow-download" in said.hint
    other = refused(["export", "bert gone", "-t", "tape"], SOURCE, "no model at 'bert gone'")
    assert "--allow-download" not in other.hint  # which no hub calls a model


def test_a_file_where_an_artifact_is_wanted_is_told_how_it_becomes_one(mx, place):
    (place / "net.onnx").write_bytes(b"whatever")
    said = mx("run", place / "net.onnx", "--input", "x=1")
    assert said.code == ARTIFACT
    assert said.error == f"{place / 'net.onnx'} is a file, not an artifact"
    assert f"mx export {place / 'net.onnx'} -t TARGET" in said.hint
    inside = shutil.copytree(place / "two.tape", place / "copy.tape") / "model.tape"
    for command in (["run", inside, "--input", "x=1"], ["inspect", inside], ["verify", inside]):
        said = mx(*command)
        assert said.code == ARTIFACT
        assert said.hint == f"give the folder that it is part of, {place / 'copy.tape'}"
