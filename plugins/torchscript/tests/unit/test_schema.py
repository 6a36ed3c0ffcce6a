"""Inputs go in by position where their order is forward's, by name where it is another."""

from types import SimpleNamespace

import pytest
from modelexport.errors import InputError
from modelexport_torchscript import schema


def module(*parameters):
    arguments = [SimpleNamespace(name=name, type="Tensor") for name in ("self", *parameters)]
    returns = [SimpleNamespace(type="Tensor"), SimpleNamespace(type="int")]
    return SimpleNamespace(forward=SimpleNamespace(schema=SimpleNamespace(arguments=arguments, returns=returns)))


def test_forward_is_written_as_cpp_calls_it():
    assert schema.signature(module("x", "rate")) == "forward(Tensor x, Tensor rate) -> Tensor, int"


@pytest.mark.parametrize(
    ("names", "by_name"),
    [
        (["a", "b"], False),
        (["a"], False),
        (["b", "a"], True),
        (["b"], True),
        (["x", "y"], False),  # other names altogether: by position
    ],
)
def test_the_order_of_inputs_decides(names, by_name):
    assert schema.takes_names(module("a", "b", "c"), names) is by_name


def test_a_name_that_forward_lacks_beside_one_that_it_has():
    with pytest.raises(InputError, match=r"no parameter 'rate' \(it has a, b\)"):
        schema.takes_names(module("a", "b"), ["a", "rate"])
