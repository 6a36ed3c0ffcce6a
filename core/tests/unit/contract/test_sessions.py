"""A session checks what it is given, and nothing else comes between the caller and the runtime."""

import numpy as np
import pytest
from modelexport.contract import Session, TensorSpec
from modelexport.errors import InputError

SPEC = TensorSpec.parse("input:float32[batch=1..8,4]")
X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


def test_it_accepts_exactly_the_sizes_that_a_dim_allows():
    session = Session(lambda inputs: {}, [TensorSpec.parse("x:float32[n=16..48/8]")])
    for size in range(70):
        x = np.zeros(size, np.float32)
        if size in (16, 24, 32, 40, 48):
            assert session({"x": x}) == {}
        else:
            with pytest.raises(InputError, match="axis 0"):
                session({"x": x})


def test_the_call_is_given_the_arrays_themselves():
    session = Session(lambda inputs: {"same": inputs["input"]}, [SPEC])
    assert session({"input": X})["same"] is X


def test_a_closed_session_says_so():
    closed = []
    session = Session(lambda inputs: {}, [SPEC], close=lambda: closed.append(1))
    with session:
        session({"input": X})
    session.close()
    assert closed == [1], "once, however often it is closed"
    with pytest.raises(InputError, match="closed"):
        session({"input": X})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "'input' is missing"),
        ({"input": X, "more": X}, "no input 'more'"),
        ({"input": X.astype(np.float64)}, "dtype float64"),
        ({"input": X.tolist()}, "dtype list"),
        ({"input": X[0]}, "rank 1"),
        ({"input": np.zeros((9, 4), np.float32)}, "size 9 on axis 0"),
    ],
    ids=["missing", "more", "dtype", "list", "rank", "size"],
)
def test_it_refuses_inputs_that_do_not_fit(inputs, message):
    session = Session(lambda inputs: {}, [SPEC])
    with pytest.raises(InputError, match=message):
        session(inputs)
