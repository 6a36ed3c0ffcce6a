"""Which constants and operators are quantized, and why others are not."""

from types import SimpleNamespace

import numpy as np
import pytest
from modelexport.errors import ConversionError
from modelexport_coreml.quantize import activations, weights
from modelexport_coreml.quantize.weights import Weight


def weight(name, count, reader="layer"):
    return Weight(name, np.ones(count, np.float32), "linear", reader)


def kept(chosen):
    return {each.name: each.kept for each in chosen}


def test_large_constants_are_chosen_or_all_where_none_is_large():
    every = [weight("small", 2047), weight("large", 2048)]
    assert kept(weights.choose(every, None, frozenset())) == {"large": ""}
    assert kept(weights.choose(every[:1], None, frozenset())) == {"small": ""}
    assert kept(weights.choose(every, 2047, frozenset())) == {"small": "", "large": ""}


def test_constants_that_are_kept_say_why():
    mask = Weight("mask", np.full(4096, -np.inf, np.float32), "add", "sum")
    every = [mask, weight("head", 4096), weight("table", 4096, reader=""), weight("body", 4096)]
    assert kept(weights.choose(every, None, frozenset({"head"}))) == {
        "mask": "it holds infinities", "head": "excluded", "table": "no operator reads it", "body": "",
    }  # fmt: skip


def test_nothing_left_to_compress():
    with pytest.raises(ConversionError, match=r"no constant .* can be compressed: 1 have 2048 values or more"):
        weights.choose([weight("head", 4096), weight("bias", 8)], None, frozenset({"head"}))


def variable(name, constant=False):
    return SimpleNamespace(name=name, op=SimpleNamespace(op_type="const" if constant else "relu"))


def operator(name, kind, *inputs):
    return SimpleNamespace(
        name=name, op_type=kind, inputs=dict(zip("xy", inputs, strict=False)), outputs=[variable(f"{name}_out")],
        blocks=[],
    )  # fmt: skip


def program(*operations):
    return SimpleNamespace(functions={"main": SimpleNamespace(operations=operations)})


def test_operators_whose_activations_can_be_quantized():
    added = operator("sum", "add", variable("a"), variable("b"))
    shifted = operator("shift", "add", variable("a"), variable("one", constant=True))
    assert activations.candidates(program(added, shifted, operator("act", "relu", variable("a")))) == [added]
    with pytest.raises(ConversionError, match=r"no operator whose activations .*: conv, linear, add"):
        activations.candidates(program(shifted))


def test_operators_that_are_left_say_why():
    ops = [operator(name, "linear", variable(f"{name}_in")) for name in ("good", "named", "unseen", "far")]
    ends = {f"{op.name}_{side}": (-1.0, 2.0) for op in ops for side in ("in", "out")}
    del ends["unseen_out"]
    ends["far_in"] = (0.0, 70000.0)
    chosen = activations.choose(ops, ends, frozenset({"named"}))
    assert {each.name: (each.range, each.kept) for each in chosen} == {
        "good": ((-1.0, 2.0), ""),
        "named": ((-1.0, 2.0), "excluded"),
        "unseen": ((-1.0, 2.0), "no sample reached it"),
        "far": ((0.0, 70000.0), "its values are beyond half precision"),
    }
    with pytest.raises(ConversionError, match="no operator whose activations"):
        activations.choose(ops[1:], ends, frozenset({"named"}))
