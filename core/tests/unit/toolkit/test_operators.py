"""Operators that a toolchain can't take are named all at once, each with its place and what helps."""

from types import SimpleNamespace

import pytest
from modelexport.contract import TensorSpec
from modelexport.errors import ConversionError
from modelexport.toolkit import Unsupported, check_dtypes, refusal

HINTS = {"cumprod": "write x.log().cumsum().exp()"}


def test_every_operator_is_named_once_with_its_place_and_the_hint_for_its_kind():
    missing = [
        Unsupported("aten.cumprod.default", "head (Head)", "net.py:7"),
        Unsupported("aten.cumprod.default", "head (Head)", "net.py:7"),
        Unsupported("aten::cumprod.out", "tail (Tail)"),
        Unsupported("cond"),
    ]
    error = refusal(missing, "no kernel", "replace them", HINTS)
    assert error.message == (
        "3 operators have no kernel: aten.cumprod.default in head (Head) at net.py:7; "
        "aten::cumprod.out in tail (Tail); cond in the model"
    )
    assert error.hint == HINTS["cumprod"]
    assert refusal(missing[3:], "no kernel", "replace them", HINTS).hint == "replace them"


def test_a_long_list_ends_with_a_count():
    missing = [Unsupported(f"my.op{number}.default") for number in range(25)]
    message = refusal(missing, "no kernel", "").message
    assert message.startswith("25 operators have no kernel: my.op0.default in the model; ")
    assert message.endswith("my.op19.default in the model; and 5 more")


def test_a_node_says_which_operator_and_where():
    stack = {"a": ("L['self'].body.0", "torch.nn.modules.conv.Conv2d")}
    trace = '  File "/models/net.py", line 12, in forward\n    return x\n  File "/x/torch/nn/f.py", line 3, in g\n'
    node = SimpleNamespace(target=sorted, meta={"nn_module_stack": stack, "stack_trace": trace})
    assert Unsupported.at(node) == Unsupported("sorted", "body.0 (Conv2d)", "/models/net.py:12")
    assert Unsupported.at(node, "aten::sort").operator == "aten::sort"


@pytest.mark.parametrize(
    ("dtype", "hint"), [("complex64", "view_as_real"), ("float64", r"\.float\(\)"), ("uint16", "cast it")]
)
def test_dtypes_that_a_runtime_lacks_are_refused_with_what_helps(dtype, hint):
    specs = [TensorSpec("x", "float32", (1,)), TensorSpec("z", dtype, (1,))]
    with pytest.raises(ConversionError, match=rf"output 'z' is {dtype}, which Toy doesn't take or give.*{hint}"):
        check_dtypes(specs[:1], specs, lambda each: each == "float32", "Toy")
    check_dtypes(specs, specs, lambda each: True, "Toy")
