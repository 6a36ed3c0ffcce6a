"""`mx inspect` on what a compiler made: its layers as a table and as a plot."""

import modelexport
import pytest
from modelexport.contract import by_kind

pytestmark = pytest.mark.usefixtures("toys")


def test_inspect_shows_the_layers(nets, tmp_path, mx):
    (made,) = modelexport.export(nets("two", "two"), "stamper", tmp_path, verify=False)
    assert by_kind(made.layers) == {"rub": {"int8": 3}, "blow": {"float32": 1}, "pause": {"": 1}}
    shown = mx("inspect", made.path).out
    assert "polish.2" in shown
    assert "add + mul" in shown
    assert "computes nothing: 1 pause" in shown
    drawn = tmp_path / "layers.svg"
    assert mx("inspect", made.path, "--plot", drawn).code == 0
    text = drawn.read_text()
    assert all(word in text for word in ("rub", "blow", "int8", "float32", "two.stamper: 4 layers"))
    assert mx("inspect", made.path, "--json").json["details"]["layers"][0]["kind"] == "blow"


def test_a_plot_of_what_lists_no_layers(artifact, tmp_path, mx):
    refused = mx("inspect", artifact, "--plot", tmp_path / "layers.png")
    assert refused.code == 2
    assert "lists no layers" in refused.err
    assert not (tmp_path / "layers.png").exists()
