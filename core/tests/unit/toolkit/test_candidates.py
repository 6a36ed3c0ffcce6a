"""A candidate is judged as the gate would: twice a case, shapes first, and one that fails is no candidate."""

import numpy as np
import pytest
from modelexport.contract import Session, TensorSpec
from modelexport.errors import RuntimeFailure
from modelexport.toolkit import GoldenCase, verdict

X, Y = TensorSpec("x", "float32", (4,)), TensorSpec("y", "float32", (4,))
CASES = [
    GoldenCase(name, {"x": np.full(4, value, "float32")}, {"y": np.full(4, 2 * value, "float32")})
    for name, value in (("one", 1.0), ("two", 2.0))
]


def session(call):
    return Session(call, (X,), (Y,))


def test_the_same_answers_are_accepted():
    found = verdict(session(lambda inputs: {"y": inputs["x"] * 2}), CASES, "float32")
    assert found.ok
    assert str(found) == ""
    assert found.cases == 2


def test_a_difference_is_told_with_its_case():
    found = verdict(session(lambda i: {"y": i["x"] * 2 + (i["x"] > 1.5) * np.float32(0.1)}), CASES, "float32")
    assert not found.ok
    assert found.worst.case == "two"
    assert "output 'y' in case 'two': max abs difference 0.1" in str(found)
    assert verdict(session(lambda i: {"y": i["x"] * 2.0001}), CASES, "int8").ok


def test_a_model_that_remembers_its_last_call_is_refused():
    calls = []

    def call(inputs):
        calls.append(inputs)
        return {"y": inputs["x"] * 2 + (len(calls) % 2 == 0)}

    assert "second call" in str(verdict(session(call), CASES, "float32"))


@pytest.mark.parametrize("error", [RuntimeFailure("it is broken"), ValueError("it is broken")])
def test_one_that_does_not_run_is_refused_with_what_it_said(error):
    def call(inputs):
        raise error

    found = verdict(session(call), CASES, "float32")
    assert not found.ok
    assert "it is broken" in str(found)


def test_nothing_compared_proves_nothing():
    assert not verdict(session(lambda i: {}), [], "float32").ok
