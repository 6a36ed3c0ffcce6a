"""MiniLM as it is installed: a real sentence-transformers folder."""

from __future__ import annotations

import numpy as np
import pytest
from modelexport.contract import Dim, TensorSpec
from modelexport.data import answers
from modelexport.data.texts import text_inputs

TEXTS = ["A plane is taking off.", "Ein Flugzeug hebt ab, überraschend früh!", "x " * 400]


@pytest.fixture(scope="module")
def sentences(tiny):
    return tiny.load(tiny.minilm())


def test_sentence_embedding_is_the_reference_formula(sentences, torch, transformers, tiny):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny.minilm())
    encoded = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    model = transformers.AutoModel.from_pretrained(tiny.minilm()).eval()
    with torch.no_grad():
        tokens = model(**encoded).last_hidden_state
    mask = encoded["attention_mask"].unsqueeze(-1).float()
    mean = (tokens * mask).sum(1) / mask.sum(1)
    wanted = mean / mean.norm(dim=1, keepdim=True)

    outputs = tiny.run(sentences, {name: value.numpy() for name, value in encoded.items()})
    assert list(outputs) == ["sentence_embedding", "last_hidden_state", "pooler_output"]
    np.testing.assert_allclose(outputs["sentence_embedding"], wanted.numpy(), atol=1e-6, rtol=0)
    np.testing.assert_allclose(outputs["last_hidden_state"], tokens.numpy(), atol=1e-6, rtol=0)


def test_minilm_inputs_and_processing(sentences):
    shape = (Dim("batch"), Dim("sequence", 1, 512))
    assert sentences.specs == (
        TensorSpec("input_ids", "int64", shape, (0, 30521)),
        TensorSpec("attention_mask", "int64", shape, "mask"),
        TensorSpec("token_type_ids", "int64", shape, (0, 1)),
    )
    assert sentences.name == "model"
    assert sentences.processing["embedding"] == "sentence_embedding"
    assert sentences.processing["text"]["max_length"] == 256  # sentence_bert_config.json; the model takes 512
    assert "labels" not in sentences.processing


def test_text_inputs_equal_the_tokenizers(sentences, tmp_path, transformers, tiny):
    artifact = tiny.artifact_of(sentences, tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny.minilm())
    for texts in (TEXTS, TEXTS[:1], ["", "[MASK] 東京 😀\tx"]):
        wanted = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="np")
        got = text_inputs(artifact, texts)
        assert set(got) == set(wanted)
        for name in got:
            assert got[name].dtype == np.int64
            np.testing.assert_array_equal(got[name], wanted[name])


def test_the_carried_tokenizer_is_complete(sentences, tmp_path, transformers, tiny):
    tiny.artifact_of(sentences, tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "processing")
    assert (
        again(TEXTS)["input_ids"] == transformers.AutoTokenizer.from_pretrained(tiny.minilm())(TEXTS)["input_ids"]
    )


def test_similar_sentences_are_similar(sentences, tmp_path, tiny):
    artifact = tiny.artifact_of(sentences, tmp_path)
    texts = ["A cat sits outside.", "A kitten is sitting in the yard.", "Interest rates rose."]
    lines = answers.readable(artifact, tiny.run(sentences, text_inputs(artifact, texts)))
    matrix = np.array([[float(value) for value in line.split()[1:]] for line in lines[1:]])
    assert matrix.shape == (3, 3)
    assert matrix[0, 1] > 0.5 > matrix[0, 2]
