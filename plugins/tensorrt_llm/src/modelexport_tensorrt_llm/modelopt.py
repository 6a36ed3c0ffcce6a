"""NVIDIA's ModelOpt, which quantizes a model by a recipe: no other module calls it for that."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.errors import ConversionError, MxError, OptionError, first_line
from modelexport.toolkit import check_pretrained, listed, stage, steps

from . import texts
from .backend import silenced
from .formats import Format

if TYPE_CHECKING:
    from modelexport.contract import Arrays

#: group sizes that a hint proposes, and layers that an error names, at most
GROUPS, NAMED = (128, 64, 32, 16), 3


@dataclass(frozen=True)
class Recipe:
    """What is done to a checkpoint: see the options of the same names. `dtype` is that of what stays as it is."""

    format: Format
    kv_cache: str = "auto"
    group_size: int = 128
    length: int = 256
    dtype: str = "auto"

    @property
    def grouped(self) -> bool:
        """Whether `group_size` says how many weights share a scale."""
        return self.format.name == "int4-awq"

    @property
    def step(self) -> int:
        """Input features of a layer must be a multiple of it."""
        return self.group_size if self.grouped else self.format.group


def pretrained(folder: Path, dtype: str) -> Any:
    """The model in `folder` in `dtype` ("auto": its own), on the GPU where there is one.

    A fresh one each time, since ModelOpt changes what it is given. Raises ConversionError.
    """
    import torch
    import transformers

    check_pretrained(folder)
    stage(f"load {folder.name} with transformers")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
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


def write(folder: Path, out: Path, recipe: Recipe, samples: Iterable[Arrays]) -> dict[str, tuple[float, float]]:
    """Write the checkpoint in `folder`, quantized, to `out`; returns the range of each layer's weight before.

    Raises OptionError for shapes that the format can't hold, ConversionError where ModelOpt fails.
    """
    with silenced():
        model = pretrained(folder, recipe.dtype)
        ranges = _check(model, recipe)
        calibrate(model, recipe, samples)
        stage(f"write the {recipe.format.name} checkpoint")
        try:
            from modelopt.torch.export import export_hf_checkpoint

            export_hf_checkpoint(model, export_dir=out)
        except Exception as error:
            raise _failed(recipe, "write", error) from error
    return ranges


def calibrate(model: Any, recipe: Recipe, samples: Iterable[Arrays]) -> None:
    """Quantize `model` in place, as ModelOpt simulates it, on scales taken from `samples`."""
    import torch

    try:
        import modelopt.torch.quantization as mtq

        rows = [torch.from_numpy(row).to(model.device) for row in texts.joined(samples, _length(model, recipe))]

        def run(model: Any) -> None:
            with torch.no_grad():
                for row in steps(rows, f"calibrate {recipe.format.name}"):
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
    preset: dict[str, Any] = copy.deepcopy(getattr(mtq, recipe.format.preset))
    if recipe.grouped:
        for entry in preset["quant_cfg"]:
            sizes = (entry.get("cfg") or {}).get("block_sizes")
            if sizes is not None and -1 in sizes:
                sizes[-1] = recipe.group_size
    if recipe.kv_cache == "fp8":
        preset["quant_cfg"] = [*preset["quant_cfg"], *copy.deepcopy(mtq.FP8_KV_CFG["quant_cfg"])]
    return preset


def _failed(recipe: Recipe, verb: str, error: Exception) -> ConversionError:
    return ConversionError(
        f"ModelOpt can't {verb} this model as {recipe.format.name}: {type(error).__name__}: {first_line(error)}",
        "try another format; --debug shows the whole trace",
    )


def linear(model: Any) -> dict[str, Any]:
    """The model's linear layers by name."""
    import torch

    return {name: part for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}


def _check(model: Any, recipe: Recipe) -> dict[str, tuple[float, float]]:
    """Every linear layer's range of weights. Raises OptionError for layers that don't divide into groups."""
    layers = linear(model)
    inside = {name: part for name, part in layers.items() if part is not model.get_output_embeddings()}
    features = {name: part.in_features for name, part in inside.items()}
    if uneven := [f"{name} ({count})" for name, count in features.items() if count % recipe.step]:
        raise OptionError(
            f"{recipe.format.name} needs input features in multiples of {recipe.step}; {len(uneven)} of "
            f"{len(inside)} layers have others: {listed(uneven, NAMED)}",
            _fitting(recipe, features),
        )
    return {name: (float(part.weight.min()), float(part.weight.max())) for name, part in layers.items()}


def _fitting(recipe: Recipe, features: Mapping[str, int]) -> str:
    """What to do about layers that don't divide: a group size that fits, where there is one to choose."""
    sizes = [size for size in GROUPS if all(count % size == 0 for count in features.values())]
    return f"-k group-size={sizes[0]} fits all of them" if sizes and recipe.grouped else "take another format"
