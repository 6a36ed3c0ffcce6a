"""A checkpoint that is not quantized → one that is, with what serves it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelexport.contract import Build
from modelexport.errors import ArtifactError, InputError

from . import files, formats, model, texts, writing
from .files import CHECKPOINT
from .modelopt import Recipe
from .serving import Serving

if TYPE_CHECKING:
    from modelexport.contract import Artifact, Calibration, Goal

    from . import QuantizeOptions


def quantize(
    artifact: Artifact, out: Path, options: QuantizeOptions, calibration: Calibration | None, goal: Goal | None
) -> Build:
    """Write the checkpoint of `artifact` into `out`, quantized as the options say, with what serves it.

    Raises ArtifactError for one that is quantized, InputError without texts.
    """
    if calibration is None:
        raise InputError(formats.NO_TEXTS.format(options.quantization), f"--calibration texts.txt: {formats.SOME}")
    folder = artifact.entry_path
    if algorithm := files.quantization(folder).algorithm:
        raise ArtifactError(
            f"{artifact.path} is quantized already, as {algorithm}", "quantize one exported without that"
        )
    served = Serving.from_json(artifact.details["serving"])
    if options.kv_cache != "auto":
        served = replace(served, kv_cache=options.kv_cache)
    recipe = Recipe(formats.FORMATS[options.quantization], served.kv_cache, options.group_size, options.length)
    samples = goal.samples if goal is not None else calibration
    data = texts.Texts(calibration, texts.judged(samples, options.length), goal.data if goal else "")
    before = model.load(folder)
    ratio = options.max_perplexity_ratio
    written = writing.quantized(
        folder, out / CHECKPOINT, recipe, data, lambda ids, mask: model.logits(before, ids, mask), ratio
    )
    return writing.finish(out, served, written)
