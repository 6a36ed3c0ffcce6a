"""Golden data: a reference is asked twice, what it answers is kept, and what is no reference is refused."""

import dataclasses

import numpy as np
import pytest
from modelexport.contract import Dim
from modelexport.errors import ArtifactError, ReferenceError
from modelexport.gate import cases, golden

from core.tests.unit.gate.conftest import IMAGE, specs_of


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
    drawn = cases.generate(specs_of("x:float32[batch=1..3,4]=-1..1"))
    positive = [cases.Case(c.name, c.inputs if c.edge else {"x": abs(c.inputs["x"]) + 1}, c.edge) for c in drawn]
    with np.errstate(all="ignore"):
        found = golden.compute(lambda inputs: {"y": np.log(inputs["x"])}, positive)
        assert set(found.skipped) == {"ramp", "edges"}, "zeros give -inf, which is an answer"
        with pytest.raises(ReferenceError, match="NaN in output 'y'"):
            golden.compute(lambda inputs: {"y": np.log(inputs["x"])}, drawn)
