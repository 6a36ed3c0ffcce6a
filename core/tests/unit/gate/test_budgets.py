"""What --tolerance makes of the budgets."""

import re

import pytest
from modelexport.errors import OptionError
from modelexport.gate import budgets


@pytest.mark.parametrize(
    ("text", "values"),
    [("1e-3", {"atol": 1e-3, "rtol": 1e-3}), ("atol=1e-4,cosine=0.9", {"atol": 1e-4, "cosine": 0.9}), (None, {})],
)
def test_tolerance_is_read(text, values):
    assert budgets.read_tolerance(text) == values


@pytest.mark.parametrize(
    "text",
    [
        "much",
        "atol=much",
        "rtoll=1",
        "-1",
        "nan",
        "atol=-1",
        "",
        " ",
        "inf",
        "noise=inf",
        "cosine=3",
        "cosine=-2",
        "equal=1.5",
        "atol=1,atol=2",
        "1e-3,atol=1",
        "atol=1;rtol=1",
        "=1",
        "atol=",
        ",",
        "atol=1,",
        "1e999",
    ],
)
def test_bad_tolerance_is_an_option_error(text):
    with pytest.raises(OptionError, match=f"can't (read|use) --tolerance {re.escape(repr(text))}"):
        budgets.read_tolerance(text)


@pytest.mark.parametrize("given", [{"atol": float("inf")}, {"cosine": 3}, {"rtoll": 1.0}, {"equal": -0.5}])
def test_a_tolerance_by_name_is_held_to_the_same_ranges(given):
    with pytest.raises(OptionError, match="can't use --tolerance"):
        budgets.read_tolerance(given)
    assert budgets.read_tolerance({"cosine": -1.0, "equal": 0, "atol": 1e300}) == {
        "cosine": -1.0, "equal": 0, "atol": 1e300,
    }  # fmt: skip
