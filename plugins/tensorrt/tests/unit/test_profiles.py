"""Optimization profiles: what is declared, and what the user wrote."""

import modelexport
import pytest
from modelexport.errors import OptionError
from modelexport_tensorrt import profiles

SPECS = modelexport.Source(inputs=("ids:int64[batch,length=1..512]=0..9", "mask:int64[batch,length=1..512]")).specs


def test_a_profile_spans_what_is_declared():
    (found,) = profiles.make(SPECS, (), None)
    assert profiles.text(found) == "batch=1:8:32;length=1:256:512"
    assert profiles.opened(SPECS, [found]) == {"batch": 32}
    assert profiles.text(profiles.make(SPECS, (), 64)[0]) == "batch=1:8:64;length=1:256:512"
    fixed = modelexport.Source(inputs=("x:float32[2,3]",)).specs
    assert profiles.make(fixed, (), None) == ()
    steps = modelexport.Source(inputs=("x:float32[1,side=64..500/32]",)).specs
    assert profiles.text(profiles.make(steps, (), None)[0]) == "side=64:224:480"


def test_profiles_are_read_by_input_or_by_dim():
    by_input = profiles.make(SPECS, ("ids=1x1:8x128:32x512",), None)
    by_dim = profiles.make(SPECS, (" batch=1:8:32 ; length=1:128:512;",), None)
    assert by_input == by_dim
    assert profiles.shapes(by_input[0], SPECS[1]) == ((1, 1), (8, 128), (32, 512))
    assert profiles.read(profiles.text(by_input[0]), SPECS) == by_input[0]


def test_the_tightest_profile_that_takes_the_sizes():
    texts = ("ids=1x1:1x16:1x32", "ids=1x1:8x128:32x512")
    found = profiles.make(SPECS, texts, None)
    assert profiles.fitting(found, {"batch": 1, "length": 32}) == 0
    assert profiles.fitting(found, {"batch": 2, "length": 32}) == 1
    assert profiles.fitting(found, {"batch": 33, "length": 1}) is None


@pytest.mark.parametrize("text", ["x=1x1", "batch=1:8", "batch", "batch=1:8:32;length=1:2"])
def test_what_is_no_profile_is_told_before_the_model_is_known(text):
    with pytest.raises(OptionError, match="can't read the profile"):
        profiles.check_text(text)
    profiles.check_text("batch=1:8:32 ; x=1x3x2:4x3x2:8x3x2;")
