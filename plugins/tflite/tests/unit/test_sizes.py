"""Which dims are resized, which get a signature for each size, and which can't stay dynamic."""

from types import SimpleNamespace

import numpy as np
import pytest
from modelexport.contract import TensorSpec
from modelexport.errors import ConversionError
from modelexport_tflite import sizes


def specs(*texts):
    return tuple(map(TensorSpec.parse, texts))


def program(*shapes):
    """As far as a plan looks at one: the shapes in it."""
    values = [SimpleNamespace(meta={"val": SimpleNamespace(shape=shape)}) for shape in shapes]
    return SimpleNamespace(graph=SimpleNamespace(nodes=[*values, SimpleNamespace(meta={})]))


def test_a_model_of_fixed_sizes_has_one_signature():
    plan = sizes.plan(specs("x:float32[2,3]"), program())
    assert plan.batch is None
    assert plan.traces() == {"serving_default": {}}


def test_a_dim_that_comes_first_is_resized_and_the_others_are_listed():
    plan = sizes.plan(specs("ids:int64[n=1..8,seq=8..24/8]", "mask:int64[n=1..8,seq=8..24/8]"), program())
    assert plan.batch.name == "n"
    assert plan.signatures == {f"seq_{size}": {"seq": size} for size in (8, 16, 24)}
    assert plan.traces()["seq_16"] == {"seq": 16, "n": plan.traced}
    assert plan.proofs()[0] == {"seq": 24, "n": 1}
    assert all(plan.traced != at["n"] for at in plan.proofs())


def test_a_dim_that_comes_first_and_elsewhere_is_listed():
    plan = sizes.plan(specs("x:float32[n=2..5,3]", "square:float32[n=2..5,n=2..5]"), program())
    assert plan.batch is None
    assert list(plan.signatures) == ["n_2", "n_3", "n_4", "n_5"]


@pytest.mark.parametrize(
    ("declared", "shapes", "traced"),
    [
        ("x:float32[n=1..8,3]", [(3,), (4, 8)], 5),  # 2 and 4 are in 8, 3 is the model's
        ("x:float32[n=1..4,6]", [(6, 4), (5, 7)], 11),  # no size allowed will do
        ("x:float32[n,5]", [(5,), (2, 3)], 4),  # of an open batch, the first that will
    ],
)
def test_a_batch_is_converted_at_a_size_that_nothing_else_has(declared, shapes, traced):
    assert sizes.plan(specs(declared), program(*shapes)).traced == traced


def test_a_batch_that_does_not_resize_is_listed_with_the_others():
    plan = sizes.plan(specs("x:float32[n=1..3,seq=4..8/4]"), program()).unbatched()
    assert plan.batch is None
    assert len(plan.signatures) == 6
    assert plan.signatures["seq_8_n_3"] == {"seq": 8, "n": 3}


@pytest.mark.parametrize(
    ("declared", "said", "hint"),
    [
        ("x:float32[1,seq=4..64]", r"seq=4\.\.64 can't stay dynamic: LiteRT has no", "--dim tflite.seq=64"),
        ("x:float32[1,seq]", "seq can't stay dynamic", "--dim tflite.seq=128"),
        ("x:float32[1,h=1..4,w=1..5]", r"w=1\.\.5 can't stay dynamic", "--dim tflite.w=1"),
    ],
)
def test_more_sizes_than_a_file_holds_are_refused_with_the_flag_that_helps(declared, said, hint):
    with pytest.raises(ConversionError, match=said) as caught:
        sizes.plan(specs(declared), program())
    assert hint in caught.value.hint


def test_a_batch_of_too_many_sizes_that_does_not_resize_is_refused():
    plan = sizes.plan(specs("x:float32[n=1..32,3]"), program())
    with pytest.raises(
        ConversionError, match=r"n=1\.\.32 can't stay dynamic: the model does not take another batch"
    ):
        plan.unbatched()


def test_integers_without_values_are_small_enough_for_any_table():
    inputs = sizes.sample(specs("ids:int64[n,4]", "x:float32[n,2]", "pixels:uint8[n,9]=0..255"), {"n": 3})
    assert {name: array.shape for name, array in inputs.items()} == {"ids": (3, 4), "x": (3, 2), "pixels": (3, 9)}
    assert set(np.unique(inputs["ids"])) <= {0, 1}
    assert inputs["pixels"].max() > 1
