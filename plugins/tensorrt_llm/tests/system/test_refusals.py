"""What can not become a checkpoint is refused in words, and leaves nothing behind."""

import json
import re

import modelexport as mx
import pytest
from modelexport.errors import InputError, OptionError, ParityError, SourceError


@pytest.fixture
def refused(tmp_path):
    """Export to TensorRT-LLM, which must raise an error of this kind with these words; returns it."""
    out = tmp_path / "out"
    out.mkdir()

    def check(source, kind, words, **options):
        with pytest.raises(kind, match=re.escape(words)) as caught:
            mx.export(source, "tensorrt-llm", out, options={k.replace("_", "-"): v for k, v in options.items()})
        assert not list(out.glob("*"))  # nothing is left behind
        return caught.value

    return check


def test_what_is_no_language_model_in_a_folder_is_refused(refused, tmp_path, torch, transformers):
    module = mx.Source(torch.nn.Linear(4, 4), inputs=("x:float32[2,4]",), ref="nets.py:linear", name="linear")
    error = refused(module, SourceError, "nets.py:linear is no Hugging Face folder")
    assert "save_pretrained" in error.hint
    config = transformers.BertConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    refused(tmp_path / "bert", SourceError, "is for feature-extraction")


def test_a_split_that_the_model_does_not_allow_is_refused(refused, source):
    error = refused(source, OptionError, "tp=3 does not divide the model's 4 attention heads", tp=3)
    assert "1, 2, 4" in error.hint


def test_wrong_options_are_found_before_the_model_is_looked_for(refused, tmp_path):
    error = refused(
        tmp_path / "no such folder", OptionError, "fp8 takes its scales from texts", quantization="fp8"
    )
    assert "-k calibration=" in error.hint


def test_a_quantization_without_texts_is_refused(export):
    with pytest.raises(InputError, match="fp8 takes its scales from texts, and none are given") as caught:
        mx.quantize(export("none").path, options={"quantization": "fp8"})
    assert "--calibration texts.txt" in caught.value.hint


def test_texts_are_refused_in_words(refused, source, tmp_path):
    empty, table = tmp_path / "empty.txt", tmp_path / "rows.jsonl"
    empty.write_text("")
    refused(source, InputError, "empty.txt holds no samples", quantization="fp8", calibration=str(empty))
    table.write_text(json.dumps({"question": "the cat", "answer": "sat on"}) + "\n")
    texts = {"quantization": "fp8", "calibration": str(table)}
    refused(source, InputError, "which column", **texts)
    refused(source, InputError, "has no column 'reply'", **texts, column="reply")


def test_a_loss_above_what_is_allowed_is_refused_with_its_figures(refused, source, texts):
    options = {"quantization": "nvfp4", "calibration": str(texts), "max_perplexity_ratio": 0.5}
    error = refused(source, ParityError, "nvfp4 takes the perplexity from ", **options)
    assert error.message.startswith("nvfp4 takes the perplexity from ")
    assert error.message.endswith("times, 0.5 is allowed")


def test_groups_that_do_not_fit_are_refused_before_the_work(refused, source, texts, tmp_path, tiny):
    uneven = tiny.llama(tmp_path / "uneven", hidden_size=192, num_hidden_layers=1)
    words = "multiples of 128; 6 of 7 layers have others: model.layers.0.self_attn.q_proj (192)"
    error = refused(uneven, OptionError, words, quantization="int4-awq", calibration=str(texts))
    assert error.hint == "-k group-size=64 fits all of them"


def test_a_quantized_folder_is_refused(refused, export):
    refused(export("fp8").entry_path, SourceError, "quantized already (modelopt)")
