"""What the folder of a checkpoint says: its configuration, its tensors, and how they are quantized.

Nothing here knows ModelOpt: a checkpoint is judged by its files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelexport.errors import MxError, RuntimeFailure, first_line

CONFIG, QUANTIZATION = "config.json", "hf_quant_config.json"


@dataclass(frozen=True)
class Quantization:
    """How a checkpoint is quantized: `algorithm` of the weights ("" for none), `cache` of keys and values."""

    algorithm: str = ""
    cache: str = ""
    group_size: int = 0


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
    said = read_json(file).get("quantization") or {}
    return Quantization(
        said.get("quant_algo") or "", said.get("kv_cache_quant_algo") or "", int(said.get("group_size") or 0)
    )


def tensors(folder: Path) -> dict[str, Any]:
    """Every tensor of the folder's safetensors files, by name. Raises RuntimeFailure where one can't be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise RuntimeFailure(f"{folder} holds no safetensors", "make the checkpoint again")
    found: dict[str, Any] = {}
    for file in files:
        try:
            found |= load_file(file)
        except (SafetensorError, OSError, ValueError) as error:
            raise RuntimeFailure(f"{file} is damaged: {first_line(error)}", "make the checkpoint again") from error
    return found


def readable_by_older(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json with the keys that transformers 4 looks for beside those that transformers 5 writes.

    TensorRT-LLM brings a transformers 4, which takes its default where it does not find `rope_theta`, and says
    nothing.
    """
    made = dict(config)
    rope = made.get("rope_parameters")
    if isinstance(rope, Mapping) and "rope_theta" in rope:
        made.setdefault("rope_theta", rope["rope_theta"])
        if rope.get("rope_type", "default") != "default":
            made.setdefault("rope_scaling", {key: value for key, value in rope.items() if key != "rope_theta"})
    if "dtype" in made:
        made.setdefault("torch_dtype", made["dtype"])
    return made
