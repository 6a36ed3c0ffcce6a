"""What a folder becomes: inputs, outputs and weights as transformers has them; and what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from modelexport.contract import Dim, LoadOptions
from modelexport.errors import MxError, SourceError, UnsafeFileError
from modelexport.gate import cases
from modelexport.model import reference
from modelexport_transformers import locate

HEADS = {
    "feature-extraction": "Model",
    "text-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "fill-mask": "ForMaskedLM",
}


@pytest.mark.parametrize("task", HEADS)
def test_every_text_task_gives_what_transformers_gives(task, tmp_path, torch, transformers, tiny):
    architecture = f"Bert{HEADS[task]}"
    source = tiny.load(tiny.save(tmp_path, architecture, tiny.bert()))
    inputs = tiny.drawn(source)
    model = getattr(transformers, architecture).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        wanted = model(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    outputs = tiny.run(source, inputs)
    assert source.processing["task"] == task
    assert set(outputs) == set(wanted.keys())
    for name, array in outputs.items():
        np.testing.assert_array_equal(array, wanted[name].numpy())


RELATIVES: dict[str, tuple[dict[str, Any], int | None, tuple[str, ...]]] = {
    # architecture: configuration, positions, inputs
    "Bert": ({"max_position_embeddings": 64}, 64, ("input_ids", "attention_mask", "token_type_ids")),
    "Roberta": ({"max_position_embeddings": 66, "type_vocab_size": 1}, 64, ("input_ids", "attention_mask")),
    "XLMRoberta": ({"max_position_embeddings": 66, "type_vocab_size": 1}, 64, ("input_ids", "attention_mask")),
    "MPNet": ({"max_position_embeddings": 66}, 64, ("input_ids", "attention_mask")),
    "DistilBert": (
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 37, "max_position_embeddings": 64},
        64,
        ("input_ids", "attention_mask"),
    ),
    "Albert": (
        {"embedding_size": 16, "max_position_embeddings": 64},
        64,
        ("input_ids", "attention_mask", "token_type_ids"),
    ),
    "Electra": (
        {"embedding_size": 16, "max_position_embeddings": 64},
        64,
        ("input_ids", "attention_mask", "token_type_ids"),
    ),
    "DebertaV2": (
        {"max_position_embeddings": 64, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
        | {"type_vocab_size": 0, "position_biased_input": False, "position_buckets": 16},
        64,
        ("input_ids", "attention_mask"),
    ),
}


@pytest.mark.parametrize("architecture", RELATIVES)
def test_relatives_of_bert_run_at_both_ends_of_their_lengths(architecture, tmp_path, transformers, tiny):
    more, positions, names = RELATIVES[architecture]
    sizes = {"vocab_size": 99} if architecture == "DistilBert" else tiny.TINY
    config = getattr(transformers, f"{architecture}Config")(**{**sizes, **more})
    source = tiny.load(tiny.save(tmp_path, f"{architecture}ForSequenceClassification", config))
    assert tuple(spec.name for spec in source.specs) == names
    assert source.specs[0].shape[1] == Dim("sequence", 1, positions)
    assert positions is not None
    for length in (1, positions):
        for kind in ("random", "zeros", "edges"):
            inputs = cases.draw(source.specs, {"batch": 2, "sequence": length}, seed=0, kind=kind)
            assert np.isfinite(tiny.run(source, inputs)["logits"]).all()


DECODERS = ("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Gemma3ForCausalLM", "GPT2LMHeadModel")


@pytest.mark.parametrize("architecture", DECODERS)
def test_language_models_answer_as_transformers_does_and_with_0_at_padding(
    architecture, tmp_path, torch, transformers, tiny
):
    source = tiny.load(tiny.decoder(tmp_path, architecture))
    assert source.processing["task"] == "text-generation"
    assert source.path == tmp_path
    assert [str(spec) for spec in source.specs] == [
        "input_ids:int64[batch,sequence=1..64]=0..98",
        "attention_mask:int64[batch,sequence=1..64]=mask",
    ]
    inputs = tiny.drawn(source)
    inputs["attention_mask"][0, 3:] = 0
    model = getattr(transformers, architecture).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        wanted = model(**{name: torch.from_numpy(array) for name, array in inputs.items()}).logits.numpy()
    outputs = tiny.run(source, inputs)
    kept = inputs["attention_mask"] == 1
    assert list(outputs) == ["logits"]
    np.testing.assert_allclose(outputs["logits"][kept], wanted[kept], atol=1e-6)
    assert not outputs["logits"][~kept].any()


def test_language_models_take_256_tokens_unless_they_are_asked_for_more(tmp_path, tiny):
    ref = tiny.decoder(tmp_path, "LlamaForCausalLM", positions=8192)
    assert tiny.load(ref).specs[0].shape[1] == Dim("sequence", 1, 256)


def test_a_task_can_be_asked_for(tmp_path, tiny):
    ref = tiny.save(tmp_path, "BertForMaskedLM", tiny.bert())
    assert tiny.load(ref).processing["task"] == "fill-mask"
    source = tiny.load(ref, task="feature-extraction")
    # no pooler in that checkpoint: no random one
    assert set(tiny.run(source, tiny.drawn(source))) == {"last_hidden_state"}


def test_a_pooler_that_the_checkpoint_has_is_an_output(tmp_path, tiny):
    ref = tiny.save(tmp_path, "BertForSequenceClassification", tiny.bert())
    source = tiny.load(ref, task="feature-extraction")
    assert set(tiny.run(source, tiny.drawn(source))) == {"last_hidden_state", "pooler_output"}


def test_a_missing_head_is_refused(tmp_path, tiny):
    ref = tiny.save(tmp_path, "BertModel", tiny.bert())
    missing = r"no weights for classifier\.bias; classifier\.weight: as BertForSequenceClassification"
    with pytest.raises(SourceError, match=missing) as caught:
        tiny.load(ref, task="text-classification")
    assert "trained for" in caught.value.hint
    with pytest.raises(SourceError, match="qa_outputs"):
        tiny.load(ref, task="question-answering")


@pytest.mark.parametrize(
    ("task", "message", "hint"),
    [
        ("fil-mask", "unknown task 'fil-mask'", "did you mean 'fill-mask'?"),
        ("zzz", "unknown task 'zzz'", "supported tasks: text-classification"),
        ("summarization", "'summarization' is not supported", "supported tasks: text-classification"),
    ],
)
def test_unknown_tasks_are_refused(task, message, hint, tmp_path, tiny):
    ref = tiny.save(tmp_path, "BertModel", tiny.bert())
    with pytest.raises(SourceError, match=message) as caught:
        tiny.load(ref, task=task)
    assert hint in caught.value.hint


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}

BART = {
    "vocab_size": 50, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "config", "message"),
    [
        ("BartForSequenceClassification", ("BartConfig", BART), "an encoder and a decoder"),
        ("BertForPreTraining", ("BertConfig", SMALL), "pretraining, which is not supported"),
    ],
)
def test_unsupported_architectures_are_refused(architecture, config, message, tmp_path, transformers, tiny):
    ref = tiny.save(tmp_path, architecture, getattr(transformers, config[0])(**config[1]))
    with pytest.raises(SourceError, match=message) as caught:
        tiny.load(ref)
    assert "file.py:factory" in caught.value.hint


def test_parameters_keep_the_checkpoints_names(tmp_path, torch, tiny):
    from safetensors.torch import load_file

    source = tiny.load(tiny.save(tmp_path, "BertForSequenceClassification", tiny.bert()))
    assert set(source.module.state_dict()) == set(load_file(tmp_path / "model.safetensors"))
    assert all(value.dtype == torch.float32 for value in source.module.parameters())
    assert reference.parameters(source.module) == ["input_ids", "attention_mask", "token_type_ids"]
    assert not source.module.training


def test_half_precision_checkpoints_are_loaded_at_float32(tmp_path, torch, transformers, tiny):
    transformers.BertModel(tiny.bert()).half().save_pretrained(tmp_path)
    assert {p.dtype for p in tiny.load(str(tmp_path)).module.parameters()} == {torch.float32}


def test_weights_are_laid_over_the_model(tmp_path, tiny):
    from modelexport.model import resolve

    ref = tiny.save(tmp_path / "base", "BertModel", tiny.bert(), seed=1)
    tuned = tiny.save(tmp_path / "tuned", "BertForSequenceClassification", tiny.bert(), seed=2)
    options = LoadOptions(weights=Path(tuned) / "model.safetensors", task="text-classification")
    source = resolve.resolve(ref, options)
    inputs = tiny.drawn(source)
    np.testing.assert_array_equal(tiny.run(source, inputs)["logits"], tiny.run(tiny.load(tuned), inputs)["logits"])


def test_declared_inputs_become_parameters(tmp_path, tiny):
    ref = tiny.save(tmp_path, "BertModel", tiny.bert())
    source = tiny.load(ref, inputs=("input_ids:int64[1,8]=0..98", "position_ids:int64[1,8]=0..63"))
    assert "position_ids" in reference.parameters(source.module)


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("ModernBertModel", {**SMALL, "local_attention": 8, "pad_token_id": 0}),
        (
            "T5EncoderModel",
            {"vocab_size": 50, "d_model": 16, "d_ff": 16, "d_kv": 8, "num_layers": 1, "num_heads": 2},
        ),
    ],
)
def test_attention_is_written_out_only_where_it_must_be(architecture, config, tmp_path, transformers, tiny):
    kind = getattr(transformers, architecture).config_class
    source = tiny.load(tiny.save(tmp_path / "odd", architecture, kind(**config)))
    assert source.module.config._attn_implementation == "eager"
    usual = tiny.load(tiny.save(tmp_path / "usual", "BertModel", tiny.bert()))
    assert usual.module.config._attn_implementation == "sdpa"


def edit(folder: Path, **changes: Any) -> str:
    file = folder / "config.json"
    config = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**config, **changes}))
    return str(folder)


def test_a_models_own_code_is_never_run(tmp_path, tiny):
    own = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    (tmp_path / "own.py").write_text("raise SystemExit('this ran')\n")
    ref = edit(tmp_path, model_type="homemade", architectures=["HomemadeModel"], auto_map=own)
    with pytest.raises(SourceError, match="code of its own, which is never run") as caught:
        tiny.load(ref)
    assert "file.py:factory" in caught.value.hint


def test_unknown_types_and_quantized_weights_are_refused(tmp_path, tiny):
    ref = edit(tmp_path, model_type="homemade", architectures=["HomemadeModel"])
    with pytest.raises(SourceError, match="knows no model type 'homemade'"):
        tiny.load(ref)
    ref = edit(
        tmp_path, model_type="bert", architectures=["BertModel"], quantization_config={"quant_method": "gptq"}
    )
    with pytest.raises(SourceError, match=r"quantized already \(gptq\)"):
        tiny.load(ref)
    ref = edit(tmp_path, model_type="bert", architectures=["BertModel"], quantization_config=None)
    (tmp_path / "hf_quant_config.json").write_text("{}")
    with pytest.raises(SourceError, match=r"quantized already \(modelopt\)"):
        tiny.load(ref)
    (tmp_path / "hf_quant_config.json").unlink()
    ref = edit(tmp_path, model_type="bert", architectures=[], quantization_config=None)
    with pytest.raises(SourceError, match="names no architecture") as caught:
        tiny.load(ref)
    assert "--task" in caught.value.hint


def test_absent_damaged_and_pickled_weights_are_refused(tmp_path, torch, tiny):
    ref = tiny.save(tmp_path, "BertModel", tiny.bert())
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(SourceError, match="can't load") as caught:
        tiny.load(ref)
    assert caught.value.__cause__ is not None
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(SourceError, match="can't load"):
        tiny.load(ref)

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "pytorch_model.bin").write_bytes(b"damaged")
    with pytest.raises(UnsafeFileError, match="damaged, or hold more than tensors"):
        tiny.load(ref)
    torch.save({"x": Evil()}, tmp_path / "pytorch_model.bin", pickle_module=pickle)
    with pytest.raises(UnsafeFileError, match="only unpickling would read them"):
        tiny.load(ref)
    assert not (tmp_path / "ran").exists()


def test_state_dicts_of_torch_are_read_as_tensors(tmp_path, torch, tiny):
    ref = tiny.save(tmp_path, "BertModel", tiny.bert())
    before = tiny.load(ref)
    torch.save(before.module.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    inputs = tiny.drawn(before)
    np.testing.assert_array_equal(
        tiny.run(tiny.load(ref), inputs)["last_hidden_state"], tiny.run(before, inputs)["last_hidden_state"]
    )


def test_loading_is_silent_and_leaves_transformers_as_it_was(tmp_path, capfd, transformers, tiny):
    from transformers.utils import logging

    ref = tiny.save(tmp_path, "BertForMaskedLM", tiny.bert())
    capfd.readouterr()
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    tiny.load(ref, task="feature-extraction")
    with pytest.raises(MxError, match="no weights for"):
        tiny.load(ref, task="text-classification")
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_missing_packages_are_named(monkeypatch, tmp_path, tiny):
    from modelexport_transformers import source

    ref = tiny.save(tmp_path, "BertModel", tiny.bert())
    monkeypatch.setattr(source, "importable", lambda module: module != "transformers")
    with pytest.raises(SourceError, match="needs transformers") as caught:
        tiny.load(ref)
    assert caught.value.hint == locate.INSTALL == "pip install 'modelexport-transformers[export]'"
