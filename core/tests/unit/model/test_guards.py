"""Guards that torch.export can't prove: accepted when they hold at every size declared, refused otherwise."""

import numpy as np
import pytest
from modelexport.contract import LoadOptions, Source
from modelexport.errors import CaptureError
from modelexport.usercode import import_object


@pytest.fixture
def net(nets):
    return lambda name, *arguments: import_object(nets("guards", name))(*arguments)


def captured(module, declaration):
    from modelexport.model import capture, inputs, resolve

    return capture.capture(inputs.describe(resolve.resolve(Source(module, (declaration,)), LoadOptions())))


@pytest.mark.parametrize("height", ["height=2..", "height=2..64", "height=2..5"])
def test_a_pool_in_ceil_mode_takes_odd_and_even_sizes(net, height):
    import torch

    pool = net("CeilPool")
    program = captured(pool, f"x:float32[batch,3,{height},width=2..]").program.module()
    for size in (2, 3, 4, 5) if height.endswith("=2..5") else (2, 3, 4, 7, 40, 61):
        x = torch.from_numpy(np.random.default_rng(size).standard_normal((2, 3, size, 9), np.float32))
        assert torch.equal(program(x=x), pool(x))


@pytest.mark.parametrize("size", [3, 50, 1000, 70_000])
def test_a_branch_on_a_size_in_the_declared_range_is_refused(net, size):
    with pytest.raises(CaptureError, match=r"every size|another path at some of the declared sizes"):
        captured(net("Branch", size), "x:float32[batch,3,height=2..,width=2..]")


def test_the_refusal_says_what_was_assumed_about_which_sizes(net):
    with pytest.raises(CaptureError, match=r"every size|another path at some of the declared sizes") as caught:
        captured(net("Threshold"), "x:float32[batch,3,height=2..,width=2..]")
    assert (
        "x.shape[2]*x.shape[3] <= 900" in caught.value.message
        or "x.shape[3]*x.shape[2] <= 900" in caught.value.message
    )
    assert "--input" in caught.value.hint


def test_a_branch_on_sizes_that_the_bounds_exclude_is_no_obstacle(net):
    assert captured(net("Threshold"), "x:float32[batch,3,height=2..30,width=2..30]").program is not None


def test_a_branch_outside_the_declared_range_is_no_obstacle(net):
    assert captured(net("Branch", 50), "x:float32[batch,3,height=2..49,width]").program is not None
