"""`--weights` that do not fit, are damaged, or would run code when they are read."""

from pathlib import Path

import modelexport
import numpy as np
import pytest

from core.tests.unit.cli.conftest import SOURCE, UNSAFE

pytestmark = pytest.mark.usefixtures("toys")

#: the shapes of what the net of these tests takes
SHAPES = {"weight": (3, 4), "bias": (3,)}


def state(shapes=SHAPES):
    import torch

    return {name: torch.ones(shape) if len(shape) > 1 else torch.zeros(shape) for name, shape in shapes.items()}


def save(shapes, path):
    from safetensors.torch import save_file

    save_file(state(shapes), path)
    return path


WEIGHTS = {
    "missing": ({"weight": (3, 4)}, ["1 missing (bias)"]),
    "unexpected": ({**SHAPES, "scale": (1,)}, ["1 unexpected (scale)"]),
    "wrong shape": ({**SHAPES, "weight": (3, 5)}, ["weight has shape [3, 5], the model [3, 4]"]),
    "prefix": (
        {f"module.{name}": shape for name, shape in SHAPES.items()},
        ["missing", "begins with 'module.'"],
    ),
}


@pytest.mark.parametrize("row", WEIGHTS, ids=lambda row: row.replace(" ", "-"))
def test_weights_that_do_not_fit(refused, place, row):
    shapes, facts = WEIGHTS[row]
    save(shapes, place / "w.safetensors")
    arguments = ["export", "@nets.py:good", "-t", "tape", "--weights", "@w.safetensors"]
    refused(arguments, SOURCE, "w.safetensors does not fit", *facts)


def test_weights_that_are_missing(refused):
    refused(["export", "@nets.py:good", "-t", "tape", "--weights", "@gone.pt"], SOURCE, "no weights", "gone.pt")


def test_truncated_safetensors(refused, place):
    file = save(SHAPES, place / "cut.safetensors")
    file.write_bytes(file.read_bytes()[:-10])
    refused(["export", "@nets.py:good", "-t", "tape", "--weights", file], SOURCE, "cut.safetensors is damaged")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("weights.safetensors", "is damaged, or no safetensors file"),
        ("weights.pth", "is nothing that torch.save writes"),
        ("nets.py", "is code"),
    ],
)
def test_weights_that_are_no_weights(refused, name, what):
    arguments = ["export", "@nets.py:good", "-t", "tape", "--weights", f"@{name}"]
    refused(arguments, SOURCE, f"{name} {what}")


class Bomb:
    """Unpickling it leaves a file behind."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (Path(self.mark),)


@pytest.fixture
def bomb(place):
    """A checkpoint with a good state dict, and a bomb beside it."""
    import torch

    torch.save({"state_dict": state(), "extra": Bomb(place / "ran")}, place / "bomb.pt")
    return place / "bomb.pt"


def test_a_pickle_is_refused_and_not_run(refused, place, bomb):
    arguments = ["export", "@nets.py:good", "-t", "tape", "--weights", bomb]
    refused(arguments, UNSAFE, "bomb.pt", "unpickling", "--allow-pickle", "safetensors")
    assert not (place / "ran").exists()


def test_a_pickle_is_read_when_allowed(mx, place, bomb):
    arguments = ["-t", "captured", "--weights", bomb, "--allow-pickle", "-o", place / "out"]
    assert mx("export", f"{place / 'nets.py'}:good", *arguments).code == 0
    assert (place / "ran").exists()
    with modelexport.run(place / "out" / "good.captured") as session:
        assert (session({"input": np.ones((2, 4), np.float32)})["output"] == 4).all()
