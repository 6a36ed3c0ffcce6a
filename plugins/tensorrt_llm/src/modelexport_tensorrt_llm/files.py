"""The folder of a checkpoint: its configuration, its tensors, how they are quantized, and what goes with them.

Nothing here knows ModelOpt: a checkpoint is judged by its files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelexport.errors import ConversionError, MxError, RuntimeFailure, first_line

#: the checkpoint's folder in an artifact
CHECKPOINT = "checkpoint"

CONFIG, QUANTIZATION, TOKENIZER = "config.json", "hf_quant_config.json", "tokenizer_config.json"

#: what goes with the weights, copied as it is
_BESIDE = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model", "*.tiktoken",
    "chat_template*", "generation_config.json",
)  # fmt: skip


@dataclass(frozen=True)
class Quantization:
    """How a checkpoint is quantized: `algorithm` of the weights ("" for none), `cache` of keys and values."""

    algorithm: str = ""
    cache: str = ""
    group_size: int = 0


# --------------------------------------------------------------------------------------- reading


def read_json(file: Path, kind: type[MxError] = RuntimeFailure) -> dict[str, Any]:
    """The object in a JSON file. Raises `kind` where it is missing or damaged."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise kind(f"{file} is missing or damaged: {first_line(error)}", "make the checkpoint again") from error
    if not isinstance(value, dict):
        raise kind(f"{file} holds no object", "make the checkpoint again")
    return value


def quantization(folder: Path) -> Quantization:
    """What hf_quant_config.json says; nothing is quantized where there is none."""
    file = folder / QUANTIZATION
    if not file.is_file():
        return Quantization()
    values = read_json(file).get("quantization") or {}
    return Quantization(
        values.get("quant_algo") or "",
        values.get("kv_cache_quant_algo") or "",
        int(values.get("group_size") or 0),
    )


def tensors(folder: Path) -> dict[str, Any]:
    """Every tensor of the folder's safetensors files, by name. Raises RuntimeFailure where one can't be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise RuntimeFailure(f"{folder} holds no safetensors", "make the checkpoint again")
    by_name: dict[str, Any] = {}
    for shard in shards:
        try:
            by_name |= load_file(shard)
        except (SafetensorError, OSError, ValueError) as error:
            raise RuntimeFailure(
                f"{shard} is damaged: {first_line(error)}", "make the checkpoint again"
            ) from error
    return by_name


# --------------------------------------------------------------------------------------- writing


def complete(original: Path, written: Path) -> None:
    """Put beside the weights in `written` what goes with them, for transformers 4 and 5 alike."""
    for pattern in _BESIDE:
        for file in original.glob(pattern):
            if file.is_file() and not file.name.endswith(".safetensors"):
                shutil.copyfile(file, written / file.name)
    before, after = (read_json(folder / CONFIG, ConversionError) for folder in (original, written))
    merged = {**before, **after, "torch_dtype": after.get("dtype", before.get("torch_dtype"))}
    _write_json(written / CONFIG, readable_by_older(merged))
    tokenizer = written / TOKENIZER
    if tokenizer.is_file():
        values = read_json(tokenizer, ConversionError)
        if values.get("tokenizer_class") == "TokenizersBackend":  # transformers 5's name for it
            _write_json(tokenizer, {**values, "tokenizer_class": "PreTrainedTokenizerFast"})


def _write_json(file: Path, value: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def readable_by_older(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json with the keys that transformers 4 looks for beside those that transformers 5 writes.

    TensorRT-LLM brings a transformers 4, which takes its default where it does not find `rope_theta`, and says
    nothing.
    """
    both = dict(config)
    rope = both.get("rope_parameters")
    if isinstance(rope, Mapping) and "rope_theta" in rope:
        both.setdefault("rope_theta", rope["rope_theta"])
        if rope.get("rope_type", "default") != "default":
            both.setdefault("rope_scaling", {key: value for key, value in rope.items() if key != "rope_theta"})
    if "dtype" in both:
        both.setdefault("torch_dtype", both["dtype"])
    return both
