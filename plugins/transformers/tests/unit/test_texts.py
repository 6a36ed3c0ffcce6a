"""Texts become inputs, and outputs become answers, as transformers has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from modelexport.contract import Dim
from modelexport.data import answers, run_inputs
from modelexport.data.images import image_inputs
from modelexport.data.texts import text_inputs
from modelexport.errors import InputError

LABELS = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}


@pytest.fixture
def classifier(tmp_path, tiny):
    ref = tiny.save(tmp_path / "model", "BertForSequenceClassification", tiny.bert(**LABELS))
    tiny.save_tokenizer(tmp_path / "model")
    return tiny.artifact_of(tiny.load(ref), tmp_path / "artifact")


def test_text_is_cut_to_what_the_artifact_takes(classifier):
    long = ["the cat " * 50, "the mat"]
    assert text_inputs(classifier, long)["input_ids"].shape == (2, 20)
    narrow = tuple(
        replace(spec, shape=(Dim("batch"), Dim("sequence", 8, 16, 8)), dtype="int32") for spec in classifier.inputs
    )
    got = text_inputs(replace(classifier, inputs=narrow), long[1:])
    assert got["input_ids"].tolist() == [[2, 5, 9, 3, 0, 0, 0, 0]]
    assert got["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]
    assert got["input_ids"].dtype == np.int32
    assert text_inputs(replace(classifier, inputs=narrow), long)["input_ids"].shape == (2, 16)


def test_what_is_cut_is_said(classifier):
    said = []
    text_inputs(classifier, ["the cat", "the cat " * 50, "the mat"], tell=said.append)
    assert said == ["text 1 was cut: the model takes 20 tokens, so the first 18 of its 100 were read"]
    said.clear()
    text_inputs(classifier, [("who sat ?", "the cat " * 50)], tell=said.append)
    assert said == ["text 0 was cut: the model takes 20 tokens, and the question and its passage have more"]


def test_what_is_cut_of_the_front_is_said(tmp_path, tiny):
    ref = tiny.save(tmp_path / "model", "BertModel", tiny.bert())
    tiny.save_tokenizer(tmp_path / "model", truncation_side="left")
    said = []
    artifact = tiny.artifact_of(tiny.load(ref), tmp_path / "a")
    got = text_inputs(artifact, ["cat " * 50 + "sat"], tell=said.append)
    assert said == ["text 0 was cut: the model takes 20 tokens, so the last 18 of its 51 were read"]
    assert got["input_ids"][0, -2:].tolist() == [7, 3]


def test_pairs_get_their_type_ids(classifier):
    got = text_inputs(classifier, [("who sat ?", "the cat")])
    assert got["token_type_ids"].tolist() == [[0, 0, 0, 0, 0, 1, 1, 1]]


def test_padding_on_the_left(tmp_path, tiny):
    ref = tiny.save(tmp_path / "model", "BertModel", tiny.bert())
    fast = tiny.save_tokenizer(tmp_path / "model", padding_side="left")
    got = text_inputs(tiny.artifact_of(tiny.load(ref), tmp_path / "a"), ["the cat sat", "cat"])
    wanted = fast(["the cat sat", "cat"], padding=True, return_tensors="np")
    assert got["input_ids"][1, 0] == 0
    for name in got:
        np.testing.assert_array_equal(got[name], wanted[name])


def test_a_fixed_batch_takes_that_many_texts(classifier):
    one = tuple(replace(spec, shape=(1, 12)) for spec in classifier.inputs)
    fixed = replace(classifier, inputs=one)
    assert text_inputs(fixed, ["the cat"])["input_ids"].shape == (1, 12)
    with pytest.raises(InputError, match="batches of exactly 1, 2 texts"):
        text_inputs(fixed, ["the cat", "the mat"])


def test_artifacts_without_metadata_say_so(classifier):
    bare = replace(classifier, processing={})
    with pytest.raises(InputError, match="carries no tokenizer") as caught:
        text_inputs(bare, ["x"])
    assert caught.value.hint == "give --input"
    with pytest.raises(InputError, match="carries no image preprocessing"):
        image_inputs(bare, [Path("x.png")])
    assert answers.readable(bare, {"logits": np.zeros((1, 2), np.float32)}) == []


def test_texts_of_other_lengths_need_a_padding_token(classifier):
    text = {**classifier.processing["text"], "pad_id": None}
    unpadded = replace(classifier, processing={**classifier.processing, "text": text})
    assert text_inputs(unpadded, ["the cat", "the mat"])["input_ids"].shape == (2, 4)
    with pytest.raises(InputError, match="no padding token"):
        text_inputs(unpadded, ["the cat", "cat"])


def test_a_folder_without_a_tokenizer_is_a_source_all_the_same(tmp_path, tiny):
    source = tiny.load(tiny.save(tmp_path, "BertModel", tiny.bert()))
    assert "text" not in source.processing
    with pytest.raises(InputError, match="its source holds no tokenizer"):
        text_inputs(tiny.artifact_of(source, tmp_path / "a"), ["x"])


def test_a_tokenizer_of_another_model_is_left_out(tmp_path, tiny):
    ref = tiny.save(tmp_path, "BertModel", tiny.bert(vocab_size=20))
    tiny.save_tokenizer(tmp_path)
    assert "the model knows 20" in tiny.load(ref).processing["left_out"]["text"]


def test_classes_with_their_probabilities(classifier):
    assert classifier.processing["labels"] == {"logits": ["bad", "good"]}
    logits = np.log(np.array([[0.25, 0.75]], np.float32))
    assert answers.readable(classifier, {"logits": logits}) == ["0: good 0.7500, bad 0.2500"]
    several = replace(classifier, processing={**classifier.processing, "scores": "sigmoid"})
    assert answers.readable(several, {"logits": np.zeros((1, 2), np.float32)}) == ["0: bad 0.5000, good 0.5000"]


def test_a_label_a_token(tmp_path, tiny):
    names = {"id2label": {0: "O", 1: "ANIMAL"}, "label2id": {"O": 0, "ANIMAL": 1}}
    ref = tiny.save(tmp_path / "model", "BertForTokenClassification", tiny.bert(**names))
    tiny.save_tokenizer(tmp_path / "model")
    artifact = tiny.artifact_of(tiny.load(ref), tmp_path / "a")
    logits = np.zeros((2, 5, 2), np.float32)
    logits[..., 0] = 9
    logits[0, 2] = 0, 9
    lines = answers.readable(artifact, {"logits": logits}, ["the cat sat", "sat"])
    assert lines[2] == "0: cat ANIMAL 0.9999"
    assert len(lines) == 5 + 3  # padding has no label


def test_answers_come_out_of_the_context(tmp_path, tiny):
    ref = tiny.save(tmp_path / "model", "BertForQuestionAnswering", tiny.bert())
    tiny.save_tokenizer(tmp_path / "model")
    artifact = tiny.artifact_of(tiny.load(ref), tmp_path / "a")
    pair = ("who sat ?", "The cat sat on the mat")
    starts, ends = np.zeros((1, 12), np.float32), np.zeros((1, 12), np.float32)
    starts[0, [1, 5]], ends[0, [2, 6]] = (9, 4), (9, 3)  # the question's own words don't count
    lines = answers.readable(artifact, {"start_logits": starts, "end_logits": ends}, [pair])
    assert lines == ["0: The cat (score 7.0000)"]


def test_a_question_needs_its_passage(tmp_path, tiny):
    ref = tiny.save(tmp_path / "model", "BertForQuestionAnswering", tiny.bert())
    tiny.save_tokenizer(tmp_path / "model")
    artifact = tiny.artifact_of(tiny.load(ref), tmp_path / "a")
    with pytest.raises(InputError, match="finds answers in a passage, and a --text has none") as caught:
        run_inputs.gather(artifact, [], run_inputs.asked(["who sat ?"], []))
    assert "--context" in caught.value.hint
    each = run_inputs.asked(["who sat ?", "who ?"], ["The cat sat", "The mat"])
    assert each == [("who sat ?", "The cat sat"), ("who ?", "The mat")]
    one = run_inputs.asked(["who sat ?", "who ?"], ["The cat sat"])
    assert one == [("who sat ?", "The cat sat"), ("who ?", "The cat sat")]
    scores = {name: np.zeros((2, 9), np.float32) for name in ("start_logits", "end_logits")}
    scores["start_logits"][:, 6] = scores["end_logits"][:, 6] = 5  # the second word of the second passage
    lines = answers.readable(artifact, scores, [("who sat ?", "The cat sat"), ("who sat ?", "The mat")])
    assert lines == ["0: cat (score 10.0000)", "1: mat (score 10.0000)"]
    unasked = answers.readable(artifact, scores, ["who sat ?", "who ?"])
    assert unasked[0] == "0: no answer, for there is no passage to find it in"


def test_masks_are_filled_in(tmp_path, tiny):
    ref = tiny.save(tmp_path / "model", "BertForMaskedLM", tiny.bert())
    tiny.save_tokenizer(tmp_path / "model")
    artifact = tiny.artifact_of(tiny.load(ref), tmp_path / "a")
    logits = np.zeros((1, 5, 99), np.float32)
    logits[0, 2, 6] = 50
    lines = answers.readable(artifact, {"logits": logits}, ["the [MASK] sat"])
    assert lines[0].startswith("0: [MASK] cat 1.0000")
