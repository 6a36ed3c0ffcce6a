"""Operators without a kernel are named all at once, wherever they are called from."""

import pytest
from modelexport.toolkit import Unsupported
from modelexport_executorch import operators


@pytest.mark.parametrize(
    ("operator", "hint"),
    [
        ("aten::histc.out", "compare with the bins' edges and sum"),
        ("aten::_unique2", "find unique values outside of the model"),
        ("aten::convolution over three dims", "convolutions over one and two dims have kernels"),
        ("my::op.out", "-k custom-kernels="),
    ],
)
def test_each_says_what_helps(operator, hint):
    error = operators.refused([Unsupported(operator, "head (Head)", "net.py:7")])
    assert error.message == (
        f"1 operator has no kernel in ExecuTorch's runtime: {operator} in head (Head) at net.py:7"
    )
    assert hint in error.hint


@pytest.fixture
def module(torch):
    """A graph that calls `aten::histc.out` in a branch, and `aten::median.out` nowhere."""
    inner, outer = torch.fx.Graph(), torch.fx.Graph()
    call = inner.call_function(torch.ops.aten.histc.out, (inner.placeholder("x"),))
    call.meta["nn_module_stack"] = {"a": ("L['self'].inner", "net.Stranger")}
    inner.output(call)
    branch = torch.fx.GraphModule({}, inner)
    outer.output(outer.get_attr("branch"))
    return torch.fx.GraphModule({"branch": branch}, outer)


def test_a_call_is_found_in_a_branch_and_what_is_not_found_is_named(module):
    missing = operators.without_kernel(module, ["aten::histc.out", "aten::median.out"])
    assert missing == [Unsupported("aten::histc.out", "inner (Stranger)"), Unsupported("aten::median.out")]
