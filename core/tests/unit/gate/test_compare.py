"""One output beside its reference: within its budget, or a problem with a name."""

import numpy as np
import pytest
from modelexport.gate import budgets, compare


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


def test_int8_has_a_budget_of_its_own_for_floats_and_integers():
    want = np.linspace(-1, 1, 100, dtype=np.float32)
    near, far = want + np.float32(0.1), want + np.float32(1.08)
    assert not _row(near, want, "float16").ok
    assert _row(near, want, "int8").ok
    assert not _row(far, want, "int8").ok
    assert _row(far, want, "int4").used < 1
    whole = np.arange(100)
    for wrong, verdicts in ((0, (True, True, True)), (5, (False, True, True)), (10, (False, False, True))):
        other = np.where(whole < wrong, -1, whole)
        found = [_row(other, whole, precision).ok for precision in ("float32", "int8", "int4")]
        assert tuple(found) == verdicts, wrong


def test_integers_as_a_dtype_widen_nothing():
    """An output of int8 in a float32 model must be equal, and a float output of it keeps its budget."""
    assert not _row(np.array([1, 2], np.int8), np.array([1, 3], np.int8), "float32").ok
    assert not _row(np.arange(100, dtype=np.int8), np.arange(100, dtype=np.int8)[::-1], "int8").ok
