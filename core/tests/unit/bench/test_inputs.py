"""The inputs of a benchmark: sizes that every contestant takes, or what keeps them apart."""

from pathlib import Path

import numpy as np
import pytest
from modelexport.bench.inputs import shared_inputs
from modelexport.contract import Artifact, TensorSpec, check_inputs, unify_dims
from modelexport.errors import InputError, OptionError


def artifact(name, *declarations):
    specs = unify_dims([TensorSpec.parse(text) for text in declarations])
    return Artifact(Path(name), "toy", "model", specs, ())


WIDE = artifact("wide", "x:float32[batch=1..8,4]", "ids:int64[batch,seq=2..12/2]=0..9")
NARROW = artifact("narrow", "x:float32[3,4]", "ids:int64[3,seq=4..8/4]=0..9")


def test_a_batch_is_small_and_other_dims_are_in_the_middle_unless_told():
    assert shared_inputs([WIDE], {}, None)[1] == {"batch": 1, "seq": 6}
    inputs, sizes = shared_inputs([WIDE], {"batch": 5, "seq": 2}, None)
    assert sizes == {"batch": 5, "seq": 2}
    assert (inputs["x"].shape, inputs["ids"].shape) == ((5, 4), (5, 2))


def test_the_users_own_inputs(tmp_path):
    np.savez(tmp_path / "in.npz", x=np.zeros((7, 4), np.float32), ids=np.zeros((7, 4), np.int64))
    assert shared_inputs([WIDE], {}, tmp_path / "in.npz")[1] == {"batch": 7, "seq": 4}


@pytest.mark.parametrize("artifacts", [[WIDE, NARROW], [NARROW, WIDE]], ids=["wide-first", "narrow-first"])
def test_wide_and_narrow_are_timed_at_sizes_that_both_take(artifacts):
    inputs, sizes = shared_inputs(artifacts, {}, None)
    assert inputs["x"].shape[0] == 3
    assert inputs["ids"].shape[1] in (4, 8)
    assert sizes["seq"] in (4, 8)
    for each in artifacts:
        check_inputs(inputs, each.inputs)


def test_a_size_that_the_narrow_one_lacks_is_said():
    with pytest.raises(OptionError, match="size 2 of batch is outside batch=3"):
        shared_inputs([WIDE, NARROW], {"batch": 2}, None)


def test_artifacts_held_at_different_sizes_are_not_compared():
    other = artifact("other", "x:float32[2,4]", "ids:int64[2,seq=4..8/4]=0..9")
    with pytest.raises(OptionError, match="batch is 3 in one artifact and 2 in another"):
        shared_inputs([WIDE, NARROW, other], {}, None)


def test_models_with_other_inputs_are_not_compared():
    with pytest.raises(InputError, match="other does not take these inputs"):
        shared_inputs([WIDE, artifact("other", "input:float32[2,3]")], {}, None)
