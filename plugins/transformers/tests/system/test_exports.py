"""Models of every task, captured, exported and verified; and a process that may not reach the network."""

from __future__ import annotations

import subprocess
import sys

import modelexport as mx
import numpy as np
import pytest
from modelexport.data import answers
from modelexport.data.images import image_inputs
from modelexport.data.texts import text_inputs


def test_the_module_is_captured_by_torch_export(tmp_path, torch, tiny):
    source = tiny.load(tiny.save(tmp_path, "BertForSequenceClassification", tiny.bert()))
    batch, sequence = torch.export.Dim("batch"), torch.export.Dim("sequence", max=64)
    inputs = {name: torch.from_numpy(array) for name, array in tiny.drawn(source).items()}
    program = torch.export.export(
        source.module, (), inputs, dynamic_shapes={name: {0: batch, 1: sequence} for name in inputs}, strict=False
    )
    assert program.graph_signature.user_inputs == tuple(inputs)
    other = tiny.drawn(source, 1, 64)
    got = program.module()(**{name: torch.from_numpy(array) for name, array in other.items()})
    np.testing.assert_allclose(got["logits"].detach(), tiny.run(source, other)["logits"], atol=1e-5)


HEADS = {
    "feature-extraction": "Model",
    "text-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "fill-mask": "ForMaskedLM",
}


@pytest.mark.parametrize("task", HEADS)
def test_exports_of_every_text_task_are_verified(task, tmp_path, tiny):
    pytest.importorskip("onnxscript")
    ref = tiny.save(tmp_path / "tiny", f"Bert{HEADS[task]}", tiny.bert())
    tiny.save_tokenizer(tmp_path / "tiny")
    (artifact,) = mx.export(ref, ["onnx"], out=tmp_path / "build")
    assert artifact.parity.verified is True
    assert artifact.processing["task"] == task
    with mx.run(artifact.path) as session:
        outputs = session(text_inputs(artifact, ["the cat sat", "who ?"]))
    assert all(len(array) == 2 for array in outputs.values())


@pytest.mark.parametrize(
    "architecture",
    ["LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Gemma3ForCausalLM", "GPT2LMHeadModel"],
)
def test_exports_of_language_models_are_verified(architecture, tmp_path, torch, transformers, tiny):
    pytest.importorskip("onnxscript")
    ref = tiny.decoder(tmp_path / "tiny", architecture)
    tiny.save_tokenizer(tmp_path / "tiny")
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


@pytest.mark.parametrize("architecture", ["ViT", "ResNet", "Swin"])
def test_exports_of_image_models_are_verified(architecture, tmp_path, transformers, tiny):
    pytest.importorskip("onnxscript")
    sizes = {
        "ViT": tiny.PIXELS,
        "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        "Swin": {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 2], "num_heads": [2, 2]}
        | {"window_size": 4},
    }[architecture]
    config = getattr(transformers, f"{architecture}Config")(**sizes)
    ref = tiny.save(tmp_path / "tiny", f"{architecture}ForImageClassification", config)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(ref)
    (artifact,) = mx.export(ref, ["onnx"], out=tmp_path / "build")
    assert artifact.parity.verified is True
    with mx.run(artifact.path) as session:
        outputs = session(image_inputs(artifact, [tiny.picture(tmp_path / "x.png")]))
    assert answers.readable(artifact, outputs)[0].startswith("0: ")


def test_local_attention_is_verified_too(tmp_path, transformers, tiny):
    pytest.importorskip("onnxscript")
    config = transformers.ModernBertConfig(
        **tiny.TINY, max_position_embeddings=64, local_attention=8, pad_token_id=0
    )
    ref = tiny.save(tmp_path / "tiny", "ModernBertModel", config)
    (artifact,) = mx.export(ref, ["onnx"], out=tmp_path / "build")
    assert artifact.parity.verified is True


def python(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_nothing_reaches_for_the_network(tmp_path, tiny):
    ref = tiny.save(tmp_path, "BertForSequenceClassification", tiny.bert())
    tiny.save_tokenizer(tmp_path)
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
