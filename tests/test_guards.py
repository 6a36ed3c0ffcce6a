"""Guards that torch.export can't prove: accepted when they hold at every size declared, refused otherwise."""

import modelexport as mx
import numpy as np
import pytest
import torch
from modelexport.contract import LoadOptions
from modelexport.errors import CaptureError
from modelexport.model.inputs import describe
from torch import nn


class CeilPool(nn.Module):
    def forward(self, x):
        return nn.functional.max_pool2d(x, 2, 2, ceil_mode=True) + 1


class Branch(nn.Module):
    """Answers differently at one size only, which no case of the gate needs to hit."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        return x * 3 if x.shape[2] == self.size else x * 2


class Threshold(nn.Module):
    def forward(self, x):
        return x * 3 if x.shape[2] * x.shape[3] > 900 else x * 2


def captured(module, declaration):
    from modelexport.model import capture, resolve

    return capture.capture(describe(resolve.resolve(mx.Source(module, (declaration,)), LoadOptions())))


@pytest.mark.parametrize("height", ["height=2..", "height=2..64", "height=2..5"])
def test_a_pool_in_ceil_mode_takes_odd_and_even_sizes(height):
    program = captured(CeilPool(), f"x:float32[batch,3,{height},width=2..]").program.module()
    for size in (2, 3, 4, 5) if height.endswith("=2..5") else (2, 3, 4, 7, 40, 61):
        x = torch.from_numpy(np.random.default_rng(size).standard_normal((2, 3, size, 9), np.float32))
        assert torch.equal(program(x=x), CeilPool()(x))


@pytest.mark.parametrize(
    "module",
    [Branch(3), Branch(50), Branch(1000), Branch(70_000), Threshold()],
    ids=lambda m: repr(vars(m).get("size")),
)
def test_a_branch_on_a_size_in_the_declared_range_is_refused(module):
    with pytest.raises(CaptureError, match=r"every size|another path at some of the declared sizes"):
        captured(module, "x:float32[batch,3,height=2..,width=2..]")


def test_the_refusal_says_what_was_assumed_about_which_sizes():
    with pytest.raises(CaptureError) as caught:
        captured(Threshold(), "x:float32[batch,3,height=2..,width=2..]")
    assert (
        "x.shape[2]*x.shape[3] <= 900" in caught.value.message
        or "x.shape[3]*x.shape[2] <= 900" in caught.value.message
    )
    assert "--input" in caught.value.hint


def test_a_branch_on_sizes_that_the_bounds_exclude_is_no_obstacle():
    assert captured(Threshold(), "x:float32[batch,3,height=2..30,width=2..30]").program is not None


def test_a_branch_outside_the_declared_range_is_no_obstacle():
    assert captured(Branch(50), "x:float32[batch,3,height=2..49,width]").program is not None
