"""Smaller and faster copies of a `.tflite` file, by ai-edge-quantizer, from the file itself.

attempt.py   one copy, and how far its score falls
recipe.py    how each mode quantizes, and what it leaves out
ranges.py    ranges of activations, taken from samples
search.py    what to leave out for a goal to hold
ranking.py   which operators lose most to fewer bits
account.py   what became of each layer
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Build, QuantizationReport, stage
from modelexport.errors import OptionError
from modelexport.toolkit import matching

from .. import files, inspection, naming
from ..files import FILE
from . import account, attempt, ranges, search

if TYPE_CHECKING:
    from modelexport.contract import Calibration, Goal

    from .. import QuantizeOptions

_CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"}


def quantize(
    artifact: Artifact,
    out: Path,
    options: QuantizeOptions,
    calibration: Calibration | None,
    goal: Goal | None,
) -> Build:
    """Write a copy of the artifact in fewer bits into `out`.

    With a goal that allows a drop only so large, what loses most is left out until the goal holds; where none of
    the trials holds it, the best of them is written. Raises OptionError for what can't be asked of this model,
    ConversionError where nothing can be quantized or the quantizer fails.
    """
    model = files.read(artifact.entry_path)
    mode = _mode(model, options, calibration)
    names = dict.fromkeys([*naming.layers(model), *naming.operators(model)])  # layers first: errors name some
    excluded = matching(names, options.exclude)
    observed = ranges.observe(artifact, calibration) if mode == "static" else {}
    work = attempt.Work(artifact, model, mode, options, excluded, observed)
    path = out / FILE
    stage(f"quantize in mode {mode}")
    left, trials = search.hold(work, path, goal)
    copied = files.read(path)
    report = QuantizationReport(
        mode,
        {"bits": work.bits, "io": options.io} if mode != "float16" else {},
        account.layers(work, copied, left),
        trials,
        tuple(_warnings(mode, calibration, left)),
        calibrated=mode == "static" and calibration is not None,
    )
    details = {**inspection.describe(path, copied), "io": options.io}
    return Build(FILE, ("ai-edge-quantizer", "ai-edge-litert"), work.precision, details, quantization=report)


def _mode(model: Any, options: QuantizeOptions, calibration: Calibration | None) -> str:
    """The mode asked for; `auto` is static for convolutions that there is data for, else dynamic."""
    mode: str = options.mode
    if mode == "auto":
        is_convolutional = not _CONVOLUTIONS.isdisjoint(files.operators(model, 0))
        is_static = is_convolutional and calibration is not None and options.bits == 8
        mode = "static" if is_static else "dynamic"
    if options.io == "integer" and mode != "static":
        raise OptionError(f"-k io=integer goes with static quantization, not {mode}", "give -k mode=static")
    return mode


def _warnings(mode: str, calibration: Calibration | None, left: Collection[str]) -> Iterator[str]:
    if mode == "static" and calibration is None:
        yield "ranges were taken from golden cases, random inputs: give --calibration"
    if left and mode == "static":
        yield (
            f"{len(left)} operators take no calibrated ranges, to keep the accuracy: layers among them quantize "
            "what they get as they run, the others stay in float32"
        )
    elif left:
        yield f"{len(left)} layers stay in float32, to keep the accuracy"
