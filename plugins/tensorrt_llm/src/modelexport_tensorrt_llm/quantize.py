"""A checkpoint → a quantized one, by NVIDIA's ModelOpt: the only module that calls it to quantize."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.errors import ConversionError, InputError, MxError, OptionError, first_line

from . import texts
from .formats import Format
from .model import silenced

if TYPE_CHECKING:
    from modelexport.contract import Arrays


@dataclass(frozen=True)
class Recipe:
    """What is done to a checkpoint: see the options of the same names. `dtype` is that of what stays as it is."""

    format: Format
    kv_cache: str = "auto"
    group_size: int = 128
    length: int = 256
    dtype: str = "auto"


def pretrained(folder: Path, dtype: str) -> Any:
    """The model in `folder` in `dtype` ("auto": its own), on the GPU where there is one.

    A fresh one each time, since ModelOpt changes what it is given. Raises ConversionError.
    """
    import torch
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        kind = getattr(transformers, (config.architectures or [""])[0], transformers.AutoModelForCausalLM)
        model = kind.from_pretrained(
            folder,
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            local_files_only=True,
            weights_only=True,
        )
    except Exception as error:
        raise ConversionError(
            f"transformers can't load {folder}: {type(error).__name__}: {first_line(error)}",
            "check that the folder is complete",
        ) from error
    model.config.architectures = model.config.architectures or [type(model).__name__]  # ModelOpt asks for them
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def quantize(folder: Path, out: Path, recipe: Recipe, samples: Iterable[Arrays]) -> dict[str, tuple[float, float]]:
    """Write the checkpoint in `folder`, quantized, to `out`; returns the range of each layer's weight before.

    Raises OptionError for shapes that the format can't hold, ConversionError where ModelOpt fails.
    """
    with silenced():
        model = pretrained(folder, recipe.dtype)
        ranges = _check(model, recipe)
        calibrated(model, recipe, samples)
        try:
            from modelopt.torch.export import export_hf_checkpoint

            export_hf_checkpoint(model, export_dir=out)
        except Exception as error:
            raise _failed(recipe, "write", error) from error
    return ranges


def calibrated(model: Any, recipe: Recipe, samples: Iterable[Arrays]) -> None:
    """Quantize `model` in place, as ModelOpt simulates it, on scales taken from `samples`."""
    import torch

    try:
        import modelopt.torch.quantization as mtq

        rows = [torch.from_numpy(row).to(model.device) for row in texts.joined(samples, _length(model, recipe))]

        def run(model: Any) -> None:
            with torch.no_grad():
                for row in rows:
                    model(input_ids=row)

        mtq.quantize(model, _configuration(mtq, recipe), forward_loop=run)
    except MxError:
        raise
    except Exception as error:
        raise _failed(recipe, "quantize", error) from error


def _length(model: Any, recipe: Recipe) -> int:
    """Tokens a row: as many as are asked for, and the model has positions for."""
    return min(recipe.length, getattr(model.config, "max_position_embeddings", None) or recipe.length)


def _configuration(mtq: Any, recipe: Recipe) -> dict[str, Any]:
    """ModelOpt's own configuration of the format, with the group size and the cache that are asked for."""
    made: dict[str, Any] = copy.deepcopy(getattr(mtq, recipe.format.preset))
    if recipe.format.name == "int4-awq":
        for entry in made["quant_cfg"]:
            sizes = (entry.get("cfg") or {}).get("block_sizes")
            if sizes is not None and -1 in sizes:
                sizes[-1] = recipe.group_size
    if recipe.kv_cache == "fp8":
        made["quant_cfg"] = [*made["quant_cfg"], *copy.deepcopy(mtq.FP8_KV_CFG["quant_cfg"])]
    return made


def _failed(recipe: Recipe, verb: str, error: Exception) -> ConversionError:
    return ConversionError(
        f"ModelOpt can't {verb} this model as {recipe.format.name}: {type(error).__name__}: {first_line(error)}",
        "try another format; --debug shows the whole trace",
    )


def _check(model: Any, recipe: Recipe) -> dict[str, tuple[float, float]]:
    """Every linear layer's range of weights. Raises OptionError for layers that don't divide into groups."""
    import torch

    step = recipe.group_size if recipe.format.name == "int4-awq" else recipe.format.group
    if step < 1:
        raise OptionError(f"group-size={step} makes no sense", "give 128 or 64")
    layers = {name: each for name, each in model.named_modules() if isinstance(each, torch.nn.Linear)}
    inside = {name: each for name, each in layers.items() if each is not model.get_output_embeddings()}
    if uneven := [f"{name} ({each.in_features})" for name, each in inside.items() if each.in_features % step]:
        fits = [size for size in (128, 64, 32, 16) if all(e.in_features % size == 0 for e in inside.values())]
        raise OptionError(
            f"{recipe.format.name} needs input features in multiples of {step}; {len(uneven)} of {len(inside)} "
            f"layers have others: {', '.join(uneven[:3])}",
            f"-k group-size={fits[0]} fits all of them"
            if fits and recipe.format.name == "int4-awq"
            else "take another format",
        )
    return {name: (float(each.weight.min()), float(each.weight.max())) for name, each in layers.items()}


def need_texts(format: Format, how: str) -> InputError:
    """The error where a format is asked for and nothing to calibrate it on is given."""
    return InputError(
        f"{format.name} takes its scales from texts, and none are given",
        f"{how}: a few dozen texts like those that the model will see",
    )


def excluded(ranges: Mapping[str, Any], quantized: Iterable[str]) -> list[str]:
    """The linear layers that a format left as they were."""
    done = set(quantized)
    return [name for name in ranges if name not in done]
