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
    assert budgets.parse_tolerance(text) == values


@pytest.mark.parametrize("text", ["much", "atol=much", "rtoll=1", "-1", "nan", "atol=-1"])
def test_bad_tolerance_is_an_option_error(text):
    with pytest.raises(OptionError, match=f"can't (read|use) --tolerance {re.escape(repr(text))}"):
        budgets.parse_tolerance(text)
