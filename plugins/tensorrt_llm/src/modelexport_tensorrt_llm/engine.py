"""An engine, where a TensorRT-LLM before 1.2 still has what builds one: trtllm-build."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import stage
from modelexport.errors import ConversionError, OptionError, first_line

from . import modelopt
from .backend import silenced

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modelexport.contract import Arrays

    from .modelopt import Recipe
    from .serving import Serving

BUILDER, FOLDER = "trtllm-build", "engine"


def builder() -> str:
    """Where trtllm-build is. Raises OptionError where it is not on the PATH."""
    path = shutil.which(BUILDER)
    if path is None:
        raise OptionError(
            f"engine=true takes {BUILDER}, which is not on the PATH: TensorRT-LLM has none since 1.2",
            "leave engine out: trtllm-serve loads the checkpoint itself",
        )
    return path


def build(
    folder: Path,
    out: Path,
    served: Serving,
    dtype: str,
    recipe: Recipe | None = None,
    samples: Iterable[Arrays] = (),
) -> None:
    """Build the model in `folder`, quantized by `recipe`, into `out/engine`; nothing here can run it.

    Raises ConversionError where ModelOpt or the builder fails.
    """
    place = out / FOLDER
    with silenced():
        model = modelopt.pretrained(folder, dtype)
        if recipe is not None:
            modelopt.calibrate(model, recipe, samples)
        _write_checkpoint(model, place / "checkpoint", served.tp)
    stage(f"build the engine with {BUILDER}")
    command = [builder(), "--checkpoint_dir", str(place / "checkpoint"), "--output_dir", str(place)]
    limits = {"--max_batch_size": served.max_batch_size, "--max_seq_len": served.max_seq_len}
    command += [str(word) for option, value in limits.items() if value is not None for word in (option, value)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ConversionError(
            f"{BUILDER} failed with exit code {done.returncode}: {lines[-1] if lines else 'it said nothing'}",
            "leave engine out: trtllm-serve loads the checkpoint itself",
        )
    shutil.rmtree(place / "checkpoint")


def _write_checkpoint(model: Any, place: Path, tp: int) -> None:
    """The format of checkpoint that trtllm-build reads."""
    try:
        from modelopt.torch.export import export_tensorrt_llm_checkpoint, get_model_type

        rope = getattr(model.config, "rope_parameters", None) or {}
        if "rope_theta" in rope:  # where ModelOpt looks for it; without it, the builder takes its default
            model.config.rope_theta = rope["rope_theta"]
        export_tensorrt_llm_checkpoint(
            model, get_model_type(model), model.dtype, export_dir=place, inference_tensor_parallel=tp
        )
    except Exception as error:
        raise ConversionError(
            f"ModelOpt can't write this model for {BUILDER}: {type(error).__name__}: {first_line(error)}",
            "leave engine out: trtllm-serve loads the checkpoint itself",
        ) from error
