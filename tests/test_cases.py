"""The gate's input cases, golden data and comparison, through their public functions."""

import dataclasses

import numpy as np
import pytest
from modelexport.contract import Dim, TensorSpec, check_inputs, unify_dims
from modelexport.errors import ArtifactError, InputError, OptionError, ReferenceError
from modelexport.gate import budgets, cases, compare, golden
from modelexport.store.arrays import load_npz


def _specs(*declarations):
    return unify_dims([TensorSpec.parse(text) for text in declarations])


def _named(drawn):
    return {case.name: case.inputs for case in drawn}


IMAGE = _specs("x:float32[batch=1..8,3,h=4..20,w=4..20]")
TEXT = _specs(
    "ids:int64[batch=1..4,seq=1..12]=5..30", "mask:int64[batch,seq]=mask", "pixels:uint8[batch,2]=0..255"
)


# ------------------------------------------------------------------ declarations


@pytest.mark.parametrize(
    "text",
    ["x:float32[batch=1..8,3,h,w=2..]", "ids:int64[b=1..4,s]=0..30521", "m:int64[b,s]=mask",
     "side:float32[s=32..256/32]", "x:bool[3]", "scalar:float64[]", "y:float32[n]=-1.5..2.25"],
)  # fmt: skip
def test_declaration_survives_printing(text):
    spec = TensorSpec.parse(text)
    assert TensorSpec.parse(str(spec)) == spec


def test_declared_bounds_follow_the_step():
    assert TensorSpec.parse("x:float32[s=30..255/32]").shape == (Dim("s", 32, 224, 32),)
    assert TensorSpec.parse("x:float32[s=4..4]").shape == (4,)


@pytest.mark.parametrize(
    "text",
    ["x", "x:float32", "x:float33[3]", "x:float32[3", "x:float32[b=8..1]", "x:float32[0]", "x:float32[b=1..31/32]",
     "x:float32[-1]", "x:int64[3]=9..2", "x:float32[a b]", "x:float32[3]=mask2", ""],
)  # fmt: skip
def test_bad_declaration_is_an_option_error(text):
    with pytest.raises(OptionError):
        TensorSpec.parse(text)


def test_dims_of_one_name_are_one_dim():
    specs = _specs("a:float32[n=1..8]", "b:float32[n=4..16]")
    assert {dim for spec in specs for dim in spec.dims} == {Dim("n", 4, 8)}
    with pytest.raises(OptionError, match="exclude each other"):
        _specs("a:float32[n=1..3]", "b:float32[n=4..16]")


@pytest.mark.parametrize("size", range(70))
def test_session_accepts_exactly_the_sizes_that_a_dim_allows(size):
    from modelexport import Session

    spec = TensorSpec.parse("x:float32[n=16..48/8]")
    session = Session(lambda inputs: {}, [spec])
    if size in (16, 24, 32, 40, 48):
        assert session({"x": np.zeros(size, np.float32)}) == {}
    else:
        with pytest.raises(InputError, match="axis 0"):
            session({"x": np.zeros(size, np.float32)})


# ------------------------------------------------------------------ shapes


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
    assert cases.equal_sizes(_specs(declaration)) == equal


def test_middle_follows_the_step_and_is_odd_in_it():
    assert cases.middle_sizes(_specs("x:float32[s=32..256/32]")) == {"s": 5 * 32}
    assert cases.middle_sizes(_specs("x:float32[n=1..2]")) == {"n": 2}
    assert cases.middle_sizes(_specs("x:float32[n=7..8]")) == {"n": 7}


@pytest.mark.parametrize("high", [2, 3, 4, 5, 8, 17, 64, 1000])
def test_middle_is_never_below_two(high):
    """torch.export specialises sizes 0 and 1, and the middle is where a model is captured."""
    sizes = cases.middle_sizes(_specs(f"x:float32[a=1..{high},b=1..{high}]"))
    assert all(2 <= size <= high for size in sizes.values())


def test_fixed_shape_has_no_low_or_high():
    names = set(_named(cases.generate(_specs("x:float32[2,3]"))))
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
    drawn = cases.generate(_specs(declaration))
    for case in drawn:
        assert case.inputs["x"].size <= 3 * cases.MAX_ELEMENTS, case.name
    highs = [case for case in drawn if case.name.startswith("high")]
    assert all(case.inputs["x"].size <= cases.MAX_ELEMENTS for case in highs)
    assert all(case.inputs["x"].shape[0] >= 2 for case in highs)


def test_minimal_cases():
    assert [case.name for case in cases.generate(IMAGE, minimal=True)] == ["low", "middle"]


# ------------------------------------------------------------------ values


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
    specs = _specs("x:float32[batch=1..4,9]", "n:int64[batch]")
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
        cases.generate(_specs("ids:int64[batch,seq]"))


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
    for case in cases.generate(_specs("x:float32[batch=1..4,50]=0.25..0.5")):
        assert case.inputs["x"].min() >= 0.25
        assert case.inputs["x"].max() <= 0.5


# ------------------------------------------------------------------ samples


def test_samples_single_and_numbered(tmp_path):
    specs = _specs("x:float32[batch=1..4,2]")
    a, b = np.ones((1, 2), np.float32), np.zeros((3, 2), np.float32)
    np.savez(tmp_path / "one.npz", x=a)
    np.savez(tmp_path / "two.npz", **{"x/0": a, "x/1": b})
    assert [sample["x"].shape for sample in cases.load_samples(tmp_path / "one.npz", specs)] == [(1, 2)]
    assert [sample["x"].shape for sample in cases.load_samples(tmp_path / "two.npz", specs)] == [(1, 2), (3, 2)]
    np.savez(tmp_path / "bad.npz", **{"x/0": a, "x/1": b.astype(np.float64)})
    with pytest.raises(InputError, match=r"sample 1 of .*bad.npz: input 'x' has dtype float64"):
        cases.load_samples(tmp_path / "bad.npz", specs)


def test_npz_that_needs_unpickling_is_refused(tmp_path):
    np.savez(tmp_path / "object.npz", x=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"can't read .*object.npz"):
        load_npz(tmp_path / "object.npz")


# ------------------------------------------------------------------ golden data


def _halves(inputs):
    return {"total": inputs["x"].sum((1, 2, 3)), "half": inputs["x"][:, :, ::2] / 2}


@pytest.fixture(scope="module")
def reference():
    return golden.compute(_halves, cases.generate(IMAGE))


def test_golden_round_trip(reference, tmp_path):
    golden.save(reference, tmp_path / "golden.npz")
    loaded = golden.load(tmp_path / "golden.npz")
    assert [case.name for case in loaded.cases] == [case.name for case in reference.cases]
    for one, other in zip(reference.cases, loaded.cases, strict=True):
        assert other.again is None
        for before, after in ((one.inputs, other.inputs), (one.outputs, other.outputs)):
            assert list(before) == list(after)
            assert all(np.array_equal(before[n], after[n]) and before[n].dtype == after[n].dtype for n in before)


def test_golden_of_more_than_ten_cases_keeps_its_order(tmp_path):
    drawn = [cases.Case(f"case {index}", {"x": np.full(1, index)}) for index in range(120)]
    golden.save(golden.compute(lambda inputs: {"y": inputs["x"]}, drawn), tmp_path / "golden.npz")
    assert [int(case.outputs["y"][0]) for case in golden.load(tmp_path / "golden.npz").cases] == list(range(120))


def test_damaged_golden_is_an_artifact_error(reference, tmp_path):
    golden.save(reference, tmp_path / "golden.npz")
    data = (tmp_path / "golden.npz").read_bytes()
    (tmp_path / "golden.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(ArtifactError, match="golden"):
        golden.load(tmp_path / "golden.npz")


def test_dims_of_outputs_are_found_again(reference):
    total, half = golden.output_specs(reference, IMAGE)
    assert (total.name, total.dtype, total.shape) == ("total", "float32", (Dim("batch", 1, 8),))
    assert half.shape[0] == Dim("batch", 1, 8)
    assert half.shape[1] == 3
    assert half.shape[2].name not in ("batch", "h", "w")
    assert half.shape[3] == Dim("w", 4, 20)


def test_trim_drops_the_largest_cases(reference):
    total = sum(golden._bytes(case) for case in reference.cases)
    kept = golden.trim(reference, total // 3)
    assert 1 <= len(kept.cases) < len(reference.cases)
    assert sum(golden._bytes(case) for case in kept.cases) <= total // 3
    dropped = [case for case in reference.cases if case.name not in [k.name for k in kept.cases]]
    assert min(map(golden._bytes, dropped)) >= max(map(golden._bytes, kept.cases))
    assert "low" in [case.name for case in kept.cases]
    assert len(golden.trim(reference, 0).cases) == 1
    stateful = dataclasses.replace(
        reference, cases=tuple(dataclasses.replace(case, again=case.outputs) for case in reference.cases)
    )
    assert golden.trim(stateful, 0) is stateful, "a stateful reference only makes sense whole"


class _Counter:
    """A reference with state, as golden.State sees it."""

    def __init__(self, noise=0.0):
        self.count = self.saved = 0.0
        self.calls, self.noise = 0, noise

    def __call__(self, inputs):
        self.count += 1
        self.calls += 1
        return {"y": inputs["x"] + self.count + self.calls * self.noise}

    def changed(self):
        return self.count != self.saved

    def restore(self):
        self.count = self.saved


def test_stateful_reference_keeps_second_answers_and_is_restored(tmp_path):
    counter = _Counter()
    drawn = [cases.Case(f"case {index}", {"x": np.zeros(1)}) for index in range(3)]
    found = golden.compute(counter, drawn, counter)
    assert [(case.outputs["y"][0], case.again["y"][0]) for case in found.cases] == [(1, 2), (3, 4), (5, 6)]
    assert not counter.changed()
    golden.save(found, tmp_path / "golden.npz")
    assert [case.again["y"][0] for case in golden.load(tmp_path / "golden.npz").cases] == [2, 4, 6]


def test_reference_that_is_random_as_well_as_stateful_is_refused():
    counter = _Counter(noise=0.1)
    with pytest.raises(ReferenceError, match="random as well as stateful"):
        golden.compute(counter, [cases.Case("only", {"x": np.zeros(1)})], counter)
    assert not counter.changed()


def test_edge_case_without_an_answer_is_dropped_and_named():
    drawn = cases.generate(_specs("x:float32[batch=1..3,4]=-1..1"))
    positive = [cases.Case(c.name, c.inputs if c.edge else {"x": abs(c.inputs["x"]) + 1}, c.edge) for c in drawn]
    with np.errstate(all="ignore"):
        found = golden.compute(lambda inputs: {"y": np.log(inputs["x"])}, positive)
        assert set(found.skipped) == {"ramp", "edges"}, "zeros give -inf, which is an answer"
        with pytest.raises(ReferenceError, match="NaN in output 'y'"):
            golden.compute(lambda inputs: {"y": np.log(inputs["x"])}, drawn)


# ------------------------------------------------------------------ comparison


def _row(got, want, precision="float32", tolerance=None):
    return compare.compare("y", got, want, precision, tolerance)


def test_budget_decides_on_both_sides_of_its_edge():
    """|y - r| <= atol + rtol |r| + noise max|r|: a touch inside passes, a touch outside fails."""
    want = np.array([1.0, 100.0], np.float64)
    budget = budgets.BUDGETS["float32"]
    allowed = budget.atol + budget.rtol * 1.0 + budget.noise * 100.0
    step = np.array([allowed, 0])
    assert _row(want + step * 0.999, want).ok
    assert not _row(want + step * 1.001, want).ok
    assert _row(want + step * 0.5, want).used == pytest.approx(0.5)


def test_direction_counts_where_elements_pass():
    """Every element within a wide tolerance, and yet the vector points elsewhere."""
    want = np.array([1e-3, -1e-3, 2e-3], np.float32)
    row = _row(-want, want, tolerance={"atol": 1e-2, "cosine": 0.99})
    assert row.cosine == pytest.approx(-1)
    assert row.ok, "below the floor of the tolerance the direction is noise"
    row = _row(-want * 100, want * 100, tolerance={"atol": 1e-2, "rtol": 3, "cosine": 0.99})
    assert row.used < 1
    assert not row.ok


@pytest.mark.parametrize(
    ("got", "says"),
    [
        (None, "no such output"),
        (np.zeros((2, 3), np.float32), "shape [2, 3]"),
        (np.zeros(3, np.float64), "dtype float64"),
        (np.array([0, np.nan, 0], np.float32), "1 values are NaN or infinite"),
        (np.array([0, np.inf, 0], np.float32), "1 values are NaN or infinite"),
    ],
)
def test_problems_are_named(got, says):
    row = _row(got, np.zeros(3, np.float32))
    assert not row.ok
    assert says in row.problem


def test_infinities_must_be_where_the_source_has_them():
    want = np.array([-np.inf, 1, np.inf], np.float32)
    assert _row(want.copy(), want).ok
    assert not _row(np.array([-np.inf, 1, 3e38], np.float32), want).ok
    assert not _row(-want, want).ok


def test_integers_and_booleans_are_exact():
    want = np.array([1, 2, 3])
    assert _row(want.copy(), want).ok
    assert "1 of 3 values differ, by up to 1" in _row(np.array([1, 3, 3]), want).problem
    flags = np.array([True, False])
    assert not _row(~flags, flags).ok
    assert not _row(want, want, tolerance={"atol": 5}).problem
    assert not _row(want + 1, want, tolerance={"atol": 5}).ok, "a tolerance is for floats"


def test_empty_and_scalar_outputs():
    assert _row(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32)).ok
    assert not _row(np.zeros((0, 4), np.float32), np.zeros((1, 4), np.float32)).ok
    assert _row(np.float32(2.0), np.array(2.0, np.float32)).ok
    assert not _row(np.float32(2.1), np.array(2.0, np.float32)).ok


def test_looser_of_two_precisions_applies():
    want = np.ones(4, np.float32)
    assert not _row(want * 1.005, want).ok
    assert _row(want * 1.005, want, precision="float16").ok
    assert budgets.budget_for("float32", "float64") == budgets.BUDGETS["float32"]
    assert budgets.budget_for("float64", "float64") == budgets.BUDGETS["float64"]


def test_top1_counts_rows():
    want = np.array([[1, 2, 3], [3, 2, 1]], np.float32)
    got = np.array([[1, 2, 3], [1, 2, 3]], np.float32)
    assert _row(got, want).top1 == 0.5


@pytest.mark.parametrize(
    ("text", "values"),
    [("1e-3", {"atol": 1e-3, "rtol": 1e-3}), ("atol=1e-4,cosine=0.9", {"atol": 1e-4, "cosine": 0.9}), (None, {})],
)
def test_tolerance_is_read(text, values):
    assert budgets.parse_tolerance(text) == values


@pytest.mark.parametrize("text", ["much", "atol=much", "rtoll=1", "-1", "nan", "atol=-1"])
def test_bad_tolerance_is_an_option_error(text):
    with pytest.raises(OptionError):
        budgets.parse_tolerance(text)
