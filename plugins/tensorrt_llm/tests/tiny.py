"""Tiny random language models in folders, and what tests read of checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

TEXT = "the cat sat on a mat and dog ran to house while rain fell all day in old town near river bank"
WORDS = TEXT.split()


def llama(folder: Path, dtype: str = "bfloat16", **more: Any) -> Path:
    """A Llama of two layers, random but with logits that differ, in a folder with a tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: index for index, word in enumerate(["<unk>", "<s>", "</s>", *dict.fromkeys(WORDS)])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **special)
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    config = transformers.LlamaConfig(
        **{
            "vocab_size": 32, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 1,
            "eos_token_id": 2, "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0}, **more,
        }
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).to(getattr(torch, dtype))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(4)
    model.save_pretrained(folder)
    return folder


def samples(count: int = 8) -> list[dict[str, Any]]:
    """Rows of 24 random tokens."""
    generator = np.random.default_rng(0)
    return [{"input_ids": generator.integers(0, 32, (1, 24))} for _ in range(count)]


def stored(folder: Path) -> dict[str, Any]:
    """The tensors of a checkpoint."""
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))
