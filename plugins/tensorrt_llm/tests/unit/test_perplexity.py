"""The loss of a copy, on numbers that can be computed by hand."""

import math

import numpy as np
import pytest
from modelexport.errors import ParityError
from modelexport_tensorrt_llm import perplexity
from modelexport_tensorrt_llm.formats import FORMATS

SAMPLES = [{"input_ids": np.array([[0, 1, 1, 0]]), "attention_mask": np.array([[1, 1, 1, 0]])}]


def always(torch, *shares):
    """A model that gives each token the same share of the likelihood, wherever it is."""
    return lambda ids, mask: torch.tensor(shares).log().expand(*ids.shape, len(shares))


def test_only_tokens_after_others_count_and_padding_does_not(torch):
    loss = perplexity.measure(always(torch, 0.5, 0.5), always(torch, 0.75, 0.25), SAMPLES)
    assert (loss.tokens, loss.texts) == (2, 1)
    assert (loss.source, loss.copy) == (pytest.approx(2), pytest.approx(4))
    assert loss.ratio == pytest.approx(2)
    assert loss.kl == pytest.approx(0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25))


def test_a_loss_is_allowed_or_refused_with_its_figures(torch):
    loss = perplexity.measure(always(torch, 0.5, 0.5), always(torch, 0.75, 0.25), SAMPLES)
    perplexity.check(loss, FORMATS["fp8"], 2.1)
    with pytest.raises(
        ParityError, match=r"fp8 takes the perplexity from 2 to 4 on 2 tokens: 2\.0000 times, 1\.9"
    ):
        perplexity.check(loss, FORMATS["fp8"], 1.9)


def test_a_loss_that_is_no_number_is_refused(torch):
    loss = perplexity.measure(always(torch, 0.5, 0.5), always(torch, float("nan"), 0.5), SAMPLES)
    with pytest.raises(ParityError, match="from 2 to nan"):
        perplexity.check(loss, FORMATS["fp8"], 100)
