"""The gate's cases: every end and an odd middle of each dim, alike every time, and the user's samples."""

import numpy as np
import pytest
from modelexport.contract import check_inputs
from modelexport.errors import InputError
from modelexport.gate import cases

from core.tests.unit.gate.conftest import IMAGE, TEXT, specs_of


def _named(drawn):
    return {case.name: case.inputs for case in drawn}


# --------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("specs", [IMAGE, TEXT], ids=["image", "text"])
def test_cases_fit_their_declaration(specs):
    drawn = cases.generate(specs)
    assert len(drawn) >= 8
    for case in drawn:
        check_inputs(case.inputs, specs)
    assert len({case.name for case in drawn}) == len(drawn)


def test_same_declaration_gives_the_same_cases():
    one, other = cases.generate(TEXT), cases.generate(TEXT)
    for a, b in zip(one, other, strict=True):
        assert a.name == b.name
        assert all(np.array_equal(a.inputs[name], b.inputs[name]) for name in a.inputs)


def test_seeds_differ():
    drawn = _named(cases.generate(IMAGE))
    assert not np.array_equal(drawn["middle"]["x"], drawn["seed 2"]["x"])
    assert not np.array_equal(drawn["seed 3"]["x"], drawn["seed 2"]["x"])


def test_ends_and_an_odd_middle_with_different_sizes():
    drawn = _named(cases.generate(IMAGE))
    assert drawn["low"]["x"].shape == (1, 3, 4, 4)
    batch, _, height, width = drawn["middle"]["x"].shape
    assert len({batch, height, width}) == 3
    assert all(size % 2 and size > 1 for size in (batch, height, width))
    assert drawn["high batch=8"]["x"].shape[0] == 8
    assert drawn["high h=20"]["x"].shape[2:] == (20, 4)
    assert drawn["high w=20"]["x"].shape[2:] == (4, 20)
    assert drawn["equal"]["x"].shape == (4, 3, 4, 4)


@pytest.mark.parametrize(
    ("declaration", "equal"),
    [
        ("x:float32[b=1..4,h=2..9,w=3..9]", {"b": 3, "h": 3, "w": 3}),
        ("x:float32[b=1..4,h=512..2048/32,w=512..2048/64]", {"b": 2, "h": 512, "w": 512}),
        ("x:float32[b=1..900,h=800..900,w=800..900]", {"b": 2, "h": 800, "w": 800}),
        ("x:float32[a=1..2000000000,b=1..2000000000]", {"a": 2, "b": 2}),
        ("x:float32[h=4..8,w=9..20]", None),
        ("x:float32[batch,3]", None),
    ],
)
def test_equal_sizes(declaration, equal):
    assert cases.equal_sizes(specs_of(declaration)) == equal


def test_middle_follows_the_step_and_is_odd_in_it():
    assert cases.middle_sizes(specs_of("x:float32[s=32..256/32]")) == {"s": 5 * 32}
    assert cases.middle_sizes(specs_of("x:float32[n=1..2]")) == {"n": 2}
    assert cases.middle_sizes(specs_of("x:float32[n=7..8]")) == {"n": 7}


@pytest.mark.parametrize("high", [2, 3, 4, 5, 8, 17, 64, 1000])
def test_middle_is_never_below_two(high):
    """torch.export specialises sizes 0 and 1, and the middle is where a model is captured."""
    sizes = cases.middle_sizes(specs_of(f"x:float32[a=1..{high},b=1..{high}]"))
    assert all(2 <= size <= high for size in sizes.values())


def test_fixed_shape_has_no_low_or_high():
    names = set(_named(cases.generate(specs_of("x:float32[2,3]"))))
    assert names == {"middle", "seed 2", "seed 3", "zeros", "ramp", "edges"}


@pytest.mark.parametrize(
    "declaration",
    [
        "x:float32[batch=1..4096,3,512,512]",
        "x:float32[batch=1..64,3,h=256..4096/32,w=256..4096/32]",
        "x:float32[n=1..2000000000]",
    ],
)
def test_huge_high_end_is_taken_smaller(declaration):
    drawn = cases.generate(specs_of(declaration))
    for case in drawn:
        assert case.inputs["x"].size <= 3 * cases.MAX_ELEMENTS, case.name
    highs = [case for case in drawn if case.name.startswith("high")]
    assert all(case.inputs["x"].size <= cases.MAX_ELEMENTS for case in highs)
    assert all(case.inputs["x"].shape[0] >= 2 for case in highs)


def test_minimal_cases():
    assert [case.name for case in cases.generate(IMAGE, minimal=True)] == ["low", "middle"]


# --------------------------------------------------------------------------------------- values


def test_integers_stay_in_their_range_and_reach_both_ends():
    drawn = cases.generate(TEXT)
    ids = np.concatenate([case.inputs["ids"].ravel() for case in drawn])
    assert (ids.min(), ids.max()) == (5, 30)
    assert ids.dtype == np.int64
    pixels = np.concatenate([case.inputs["pixels"].ravel() for case in drawn])
    assert (pixels.min(), pixels.max(), pixels.dtype) == (0, 255, np.uint8)


def test_masks_are_masks():
    """Ones, then zeros, and at least one 1 in every row; some row is cut short, some is full."""
    masks = [case.inputs["mask"] for case in cases.generate(TEXT)]
    kept = []
    for mask in masks:
        assert set(np.unique(mask)) <= {0, 1}
        assert (np.diff(mask, axis=1) <= 0).all()
        assert (mask[:, 0] == 1).all()
        kept += list(mask.mean(1))
    assert min(kept) < 1
    assert max(kept) == 1


def test_values_come_from_the_example():
    specs = specs_of("x:float32[batch=1..4,9]", "n:int64[batch]")
    example = {"x": np.linspace(10, 12, 9, dtype=np.float32)[None], "n": np.array([3])}
    example["n"] = np.array([3])
    for case in cases.generate(specs, example):
        assert case.inputs["x"].min() >= 10
        assert case.inputs["x"].max() <= 12
        assert set(case.inputs["n"]) == {3}
    names = _named(cases.generate(specs, example))
    assert np.array_equal(names["example"]["x"], example["x"])


def test_integers_of_unknown_range_are_refused():
    with pytest.raises(InputError, match="values that integer input 'ids'"):
        cases.generate(specs_of("ids:int64[batch,seq]"))


def test_floats_without_a_range_take_both_signs_and_structure():
    drawn = _named(cases.generate(IMAGE))
    assert not drawn["zeros"]["x"].any()
    assert set(np.unique(drawn["edges"]["x"])) == {-3.0, 3.0}
    ramp = drawn["ramp"]["x"].ravel()
    assert (np.diff(ramp) > 0).all()
    assert abs(ramp.mean()) > 0.5, "its sum must not be rounding noise"
    assert (drawn["middle"]["x"] < 0).any()
    assert (drawn["middle"]["x"] > 0).any()


def test_declared_floats_stay_in_their_range():
    for case in cases.generate(specs_of("x:float32[batch=1..4,50]=0.25..0.5")):
        assert case.inputs["x"].min() >= 0.25
        assert case.inputs["x"].max() <= 0.5


# --------------------------------------------------------------------------------------- samples


def test_samples_single_and_numbered(tmp_path):
    specs = specs_of("x:float32[batch=1..4,2]")
    a, b = np.ones((1, 2), np.float32), np.zeros((3, 2), np.float32)
    np.savez(tmp_path / "one.npz", x=a)
    np.savez(tmp_path / "two.npz", **{"x/0": a, "x/1": b})
    assert [sample["x"].shape for sample in cases.load_samples(tmp_path / "one.npz", specs)] == [(1, 2)]
    assert [sample["x"].shape for sample in cases.load_samples(tmp_path / "two.npz", specs)] == [(1, 2), (3, 2)]
    np.savez(tmp_path / "bad.npz", **{"x/0": a, "x/1": b.astype(np.float64)})
    with pytest.raises(InputError, match=r"sample 1 of .*bad.npz: input 'x' has dtype float64"):
        cases.load_samples(tmp_path / "bad.npz", specs)
