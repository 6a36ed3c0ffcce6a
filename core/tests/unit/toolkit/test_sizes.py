"""Dims without an end get one, the same for every target that needs it."""

import pytest
from modelexport.contract import Dim, TensorSpec
from modelexport.errors import OptionError
from modelexport.toolkit import batches, bound_notes, bounded, bounds, size_combinations

SPECS = [
    TensorSpec.parse("ids:int64[batch,seq]"),
    TensorSpec.parse("pixels:float32[batch,3,side=32../32]"),
    TensorSpec.parse("limit:float32[n=1..9]"),
]


def test_batches_and_lengths_get_what_is_usual_and_declared_ends_stay():
    assert batches(SPECS) == {"batch", "n"}
    assert bounds(SPECS, None) == {"batch": 32, "seq": 256, "side": 256}


def test_a_bound_that_was_asked_for_counts_in_the_steps_of_the_dim():
    assert bounds(SPECS, 100) == {"batch": 100, "seq": 100, "side": 96}


def test_a_dim_that_begins_high_gets_eight_times_its_least():
    assert bounds([TensorSpec.parse("x:float32[1,t=100..]")], None) == {"t": 800}


@pytest.mark.parametrize("bound", [0, 31])
def test_a_bound_below_the_least_size_is_an_error(bound):
    with pytest.raises(OptionError, match=f"dim side begins at 32, above bound={bound}"):
        bounds([TensorSpec.parse("x:float32[1,side=32..]")], bound)


def test_bounding_leaves_everything_else_as_it_was():
    spec = bounded(SPECS[1], {"batch": 4, "n": 2})
    assert spec.shape == (Dim("batch", 1, 4), 3, Dim("side", 32, None, 32))
    assert bounded(SPECS[2], {"n": 2}) == SPECS[2]
    assert bound_notes({"seq": 256}, "memory is planned for one") == [
        "seq has no upper bound, and memory is planned for one: it is 256 (-k bound=…)"
    ]


def test_sizes_are_listed_up_to_a_limit():
    dims = [Dim("n", 1, 3), Dim("t", 16, 64, 16)]
    listed = size_combinations(dims, 12)
    assert len(listed) == 12
    assert listed[0] == {"n": 1, "t": 16}
    assert listed[-1] == {"n": 3, "t": 64}
    assert size_combinations(dims, 11) is None
    assert size_combinations([Dim("open")], 10**6) is None
    assert size_combinations([], 1) == [{}]
