"""What serves a checkpoint: the configuration for trtllm-serve, and the command that starts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelexport.errors import OptionError

from .files import CHECKPOINT

CONFIG, SCRIPT = "serve.yaml", "serve.sh"

#: trtllm-serve calls it --config too, but not in every release
COMMAND = f"trtllm-serve {CHECKPOINT} --extra_llm_api_options {CONFIG}"


@dataclass(frozen=True)
class Serving:
    """How a checkpoint is to be served; see the options of the same names."""

    tp: int = 1
    kv_cache: str = "auto"
    max_batch_size: int | None = None
    max_seq_len: int | None = None

    def write(self, folder: Path) -> None:
        """Write serve.yaml and serve.sh into `folder`, beside the checkpoint."""
        lines = [
            f"tensor_parallel_size: {self.tp}",
            "kv_cache_config:",
            f"  dtype: {self.kv_cache}",
            *(f"{key}: {value}" for key, value in self._limits().items()),
        ]
        (folder / CONFIG).write_text("\n".join(lines) + "\n", encoding="utf-8")
        script = folder / SCRIPT
        script.write_text(
            "#!/bin/sh\n"
            "# An OpenAI-compatible server on port 8000. It takes TensorRT-LLM, and options of trtllm-serve.\n"
            f'cd "$(dirname "$0")" && exec {COMMAND} "$@"\n',
            encoding="utf-8",
        )
        script.chmod(0o755)

    def _limits(self) -> dict[str, int]:
        limits = {"max_batch_size": self.max_batch_size, "max_seq_len": self.max_seq_len}
        return {key: value for key, value in limits.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        return {"command": COMMAND, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Serving:
        return cls(**{key: value for key, value in data.items() if key != "command"})


def check(serving: Serving, config: Mapping[str, Any]) -> None:
    """Raise OptionError for a split over GPUs that the model's shapes don't allow."""
    tp = serving.tp
    heads = config.get("num_attention_heads") or config.get("n_head")
    shared = config.get("num_key_value_heads") or heads
    width = config.get("intermediate_size")
    if heads and heads % tp:
        allowed = [n for n in range(1, heads + 1) if heads % n == 0]
        raise OptionError(
            f"tp={tp} does not divide the model's {heads} attention heads",
            f"give one of {', '.join(map(str, allowed))}",
        )
    if shared and shared % tp and tp % shared:
        raise OptionError(
            f"tp={tp} neither divides the model's {shared} key-value heads nor is a multiple of them",
            "give another number of GPUs",
        )
    if width and width % tp:
        raise OptionError(f"tp={tp} does not divide the model's {width} hidden features", "give another number")
