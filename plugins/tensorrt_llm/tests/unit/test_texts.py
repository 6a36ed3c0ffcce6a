"""Texts as tokens: what is calibrated on, what is judged by, and what the gate gets of it."""

import numpy as np
import pytest
from modelexport.errors import InputError
from modelexport_tensorrt_llm import texts


def sample(*tokens, padding=0):
    ids = np.array([[*tokens, *([0] * padding)]])
    mask = np.array([[1] * len(tokens) + [0] * padding])
    return {"input_ids": ids, "attention_mask": mask}


def test_texts_are_joined_without_their_padding():
    rows = list(texts.joined([sample(1, 2, 3, padding=2), sample(4, 5)], length=4))
    assert [row.tolist() for row in rows] == [[[1, 2, 3, 4]], [[5]]]
    assert [row.tolist() for row in texts.joined([{"input_ids": np.array([[7, 8]])}], 2)] == [[[7, 8]]]


def test_nothing_to_calibrate_on():
    with pytest.raises(InputError, match="no texts to calibrate on"):
        list(texts.joined([], 4))


def test_texts_without_a_token_to_predict_are_not_judged_by():
    judged = texts.judged([sample(1), sample(1, 2, 3), *[sample(4, 5)] * 99], length=2)
    assert judged[0]["input_ids"].tolist() == [[1, 2]]
    assert len(judged) == texts.JUDGED


def test_the_gate_gets_a_few_alone_and_two_together():
    gated = texts.gated([sample(*range(1, 200)), sample(1, 2), sample(3)] + [sample(4, 5)] * 9)
    assert [each["input_ids"].shape for each in gated] == [(1, 96), (1, 2), (1, 1), *[(1, 2)] * 3, (2, 96)]
    assert gated[-1]["attention_mask"].sum(axis=1).tolist() == [96, 2]
    assert len(texts.gated([sample(1, 2)])) == 1
