"""Sentence embeddings as sentence-transformers makes them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from modelexport.errors import SourceError


@pytest.mark.parametrize("mode", ["cls_token", "mean_tokens", "max_tokens"])
@pytest.mark.parametrize("normalize", [False, True])
def test_poolings(mode, normalize, tmp_path, tiny):
    modules = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    flags = {f"pooling_mode_{m}": m == mode for m in ("cls_token", "mean_tokens", "max_tokens")}
    source = tiny.load(tiny.sentence_folder(tmp_path / "st", modules, {"word_embedding_dimension": 32, **flags}))
    inputs = tiny.drawn(source)
    outputs = tiny.run(source, inputs)
    rows = []
    for tokens, kept in zip(outputs["last_hidden_state"], inputs["attention_mask"].astype(bool), strict=True):
        real = tokens[kept]
        rows.append({"cls_token": tokens[0], "mean_tokens": real.mean(0), "max_tokens": real.max(0)}[mode])
    wanted = np.stack(rows)
    wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True) if normalize else wanted
    np.testing.assert_allclose(outputs["sentence_embedding"], wanted, atol=1e-6)
    assert source.name == "st"


def test_an_unknown_module_leaves_the_embedding_out(tmp_path, tiny):
    ref = tiny.sentence_folder(tmp_path, ["Transformer", "Pooling", "Dense"], {"pooling_mode_mean_tokens": True})
    source = tiny.load(ref)
    assert "embedding" not in source.processing
    assert "sentence_embedding" not in tiny.run(source, tiny.drawn(source))


def test_modules_outside_the_folder_are_refused(tmp_path, tiny):
    ref = tiny.sentence_folder(tmp_path / "st", ["Transformer", "Pooling"], {"pooling_mode_mean_tokens": True})
    entries = [{"path": "../other", "type": "sentence_transformers.models.Transformer"}]
    (tmp_path / "st" / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(SourceError, match="outside its folder"):
        tiny.load(ref)
