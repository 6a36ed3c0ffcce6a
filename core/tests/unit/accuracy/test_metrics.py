"""Scores of a copy against the artifact itself: more is better, 1 is all, and what is broken scores low."""

import math
from pathlib import Path

import numpy as np
import pytest
from modelexport.accuracy import metrics
from modelexport.contract import Artifact, Session, TensorSpec
from modelexport.errors import InputError, OptionError

X = TensorSpec.parse("x:float32[batch,4]")
SCORES, BEST = TensorSpec.parse("scores:float32[batch,4]"), TensorSpec.parse("best:int64[batch]")
ARTIFACT = Artifact(Path(), "toy", "model", (X,), (SCORES, BEST))
ROWS = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
SAMPLES = [{"x": ROWS[:1]}, {"x": ROWS[1:]}]


def session(change=lambda scores: scores):
    def call(inputs):
        scores = change(inputs["x"] * 2)
        return {"scores": scores, "best": scores.argmax(-1)}

    return Session(call, ARTIFACT.inputs, ARTIFACT.outputs)


def score(change, metric="cosine", **more):
    with metrics.goal(ARTIFACT, session(), SAMPLES, "samples of a test", metric=metric, **more) as goal:
        return goal.score(session(change))


def moved(scores):
    """Every row turned by 90 degrees in its first two axes."""
    return scores[:, [1, 0, 2, 3]] * np.float32([-1, 1, 1, 1])


@pytest.mark.parametrize("metric", ["cosine", "sqnr", "top1", "cosine:scores"])
def test_what_answers_the_same_scores_1(metric):
    assert score(lambda scores: scores, metric) == 1


def test_cosine_is_the_lowest_of_all_rows():
    expected = []
    for row in ROWS * 2:
        other = moved(row[None])[0]
        expected.append(float(row @ other) / np.linalg.norm(row) / np.linalg.norm(other))
    assert score(moved) == pytest.approx(min(expected), abs=1e-6)
    assert score(lambda scores: scores * 100) == pytest.approx(1), "its scale does not count"


def test_sqnr_is_noise_beside_signal():
    assert score(lambda scores: scores * np.float32(1.1), "sqnr") == pytest.approx(0.99, abs=1e-5)
    assert score(lambda scores: scores * 0, "sqnr") == 0


def test_top1_is_the_share_of_rows_with_the_same_largest():
    def swapped(scores):
        return -scores if len(scores) == 1 else scores

    assert score(swapped, "top1") == pytest.approx(2 / 3)


@pytest.mark.parametrize("metric", ["cosine", "sqnr"])
def test_what_is_no_number_scores_nothing(metric):
    assert score(lambda scores: scores * np.float32(np.nan), metric) <= 0


def test_an_output_of_another_shape_is_said():
    with pytest.raises(InputError, match=r"output 'scores' has shape \[1, 3\], the artifact gives \[1, 4\]"):
        score(lambda scores: scores[:, :3])


def test_the_users_own_score():
    with metrics.goal(
        ARTIFACT, session(), SAMPLES, "", evaluate=lambda run: run(SAMPLES[0])["scores"].sum()
    ) as goal:
        assert goal.baseline == pytest.approx(float(ROWS[0].sum() * 2))
        assert goal.drop(session(lambda scores: scores / 2)) == pytest.approx(float(ROWS[0].sum()))
    with pytest.raises(InputError, match="--evaluate returned nan"):
        score(lambda scores: scores, evaluate=lambda run: math.nan)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bleu", None, None), "no metric 'bleu'"),
        (("cosine", None, 1.0), "--max-drop 1 makes no sense"),
        (("cosine", None, -0.1), "--max-drop -0.1 makes no sense"),
        (("cosine", len, math.inf), "--max-drop inf makes no sense"),
    ],
)
def test_what_makes_no_sense(arguments, said):
    with pytest.raises(OptionError, match=said):
        metrics.check_metric(*arguments)


@pytest.mark.parametrize("metric", ["cosine:best", "top1:best", "cosine:gone"])
def test_outputs_that_can_not_be_judged(metric):
    with pytest.raises(OptionError, match="no floating-point output"):
        score(lambda scores: scores, metric)


def test_figures_are_every_metric_of_every_output_of_floats():
    found = metrics.figures(session(lambda scores: scores * np.float32(1.1)), SAMPLES, session())
    assert set(found) == {"scores"}
    assert found["scores"]["sqnr"] == pytest.approx(20, abs=0.01)  # decibels
    assert found["scores"]["cosine"] == pytest.approx(1)
    assert found["scores"]["top1"] == 1
