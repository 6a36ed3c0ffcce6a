"""Core's own target keeps the contract of every target; and the contract can't be bent."""

import pytest
from modelexport.testing import Quirks, TargetContract


class TestCaptured(TargetContract):
    target = "captured"


def test_a_standard_test_cannot_be_overridden():
    with pytest.raises(TypeError, match="test_session_closes"):
        type("TestBent", (TargetContract,), {"target": "captured", "test_session_closes": None})


def test_a_quirk_needs_a_specimen_and_a_reason():
    with pytest.raises(ValueError, match="no specimen"):
        Quirks(unsupported={"telepathy": "not yet"})
    with pytest.raises(ValueError, match="reason"):
        Quirks(unsupported={"lstm": " "})
