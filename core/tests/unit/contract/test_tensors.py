"""Declarations of inputs: what they say, how they print, and which are refused."""

import pytest
from modelexport.contract import Dim, TensorSpec, unify_dims
from modelexport.errors import OptionError


def specs_of(*declarations):
    return unify_dims([TensorSpec.parse(text) for text in declarations])


@pytest.mark.parametrize(
    "text",
    ["x:float32[batch=1..8,3,h,w=2..]", "ids:int64[b=1..4,s]=0..30521", "m:int64[b,s]=mask",
     "side:float32[s=32..256/32]", "x:bool[3]", "scalar:float64[]", "y:float32[n]=-1.5..2.25"],
)  # fmt: skip
def test_declaration_survives_printing(text):
    spec = TensorSpec.parse(text)
    assert TensorSpec.parse(str(spec)) == spec


def test_declared_bounds_follow_the_step():
    assert TensorSpec.parse("x:float32[s=30..255/32]").shape == (Dim("s", 32, 224, 32),)
    assert TensorSpec.parse("x:float32[s=4..4]").shape == (4,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "declaration ''"), ("x", "declaration 'x'"), ("x:float32", "declaration 'x:float32'"),
        ("x:float32[3", "declaration 'x:float32[3'"), ("x:float33[3]", "unknown dtype 'float33'"),
        ("x:float32[a b]", "dimension 'a b'"), ("x:float32[-1]", "dimension '-1'"),
        ("x:float32[0]", "dimension '0'"), ("x:float32[b=8..1]", "'b=8..1' are empty"),
        ("x:float32[b=1..31/32]", "'b=1..31/32' are empty"), ("x:int64[3]=9..2", "values '9..2'"),
        ("x:float32[3]=mask2", "values 'mask2'"),
    ],
)  # fmt: skip
def test_bad_declaration_is_an_option_error(text, said):
    with pytest.raises(OptionError) as caught:
        TensorSpec.parse(text)
    assert said in caught.value.message


def test_dims_of_one_name_are_one_dim():
    specs = specs_of("a:float32[n=1..8]", "b:float32[n=4..16]")
    assert {dim for spec in specs for dim in spec.dims} == {Dim("n", 4, 8)}
    with pytest.raises(OptionError, match="exclude each other"):
        specs_of("a:float32[n=1..3]", "b:float32[n=4..16]")
