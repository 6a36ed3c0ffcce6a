"""Another engine from the ONNX model that an artifact keeps: the ONNX plugin quantizes it, and it is built once.

`mx export --precision` needs none of this: there the ONNX model is quantized first, and one engine is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import modelexport_onnx.toolkit as onnx
from modelexport.errors import CannotRunHere
from modelexport.toolkit import scratch

from . import build, export

if TYPE_CHECKING:
    from modelexport.contract import Artifact, Build, Calibration, Goal

    from . import QuantizeOptions

#: mode → what it is called among the ONNX plugin's
MODES: Mapping[str, Literal["static", "fp8", "weight-only"]] = {
    "int8": "static",
    "fp8": "fp8",
    "int4": "weight-only",
}


def quantize(
    artifact: Artifact, out: Path, options: QuantizeOptions, calibration: Calibration | None, goal: Goal | None
) -> Build:
    """Write an engine of the artifact's model in int8, fp8 or int4 into `out`, and the ONNX model it is made of.

    Raises OptionError for what can't be, before any work; ConversionError where the quantized model is over its
    precision's budget on ONNX Runtime and no `max_drop` says what it may lose, and what `build.engine` raises.
    """
    source = export.kept(artifact)
    wanted = replace(export.options_of(artifact), keep_onnx=True, precision="auto", plugins=options.plugins)
    build.request(source.entry_path, wanted, source.inputs, options.mode)
    if goal is None:
        raise CannotRunHere(f"{artifact.path} names no model to measure on", "export it again")
    with scratch("tensorrt") as folder:
        copy = onnx.quantized(source, folder, for_onnx(options), calibration, goal)
        engine = export.compiled(export.read(copy), out, wanted)
    return replace(
        engine,
        quantization=replace(copy.quantization_report(), mode=options.mode),
        notes=(*copy.notes, *engine.notes),
        tools=(*engine.tools, "onnxruntime"),
    )


def check_calibrated(options: QuantizeOptions, calibrated: bool) -> None:
    """Raise OptionError where calibration data is lacking."""
    onnx.check_calibrated(for_onnx(options), calibrated)


def for_onnx(options: QuantizeOptions) -> onnx.QuantizeOptions:
    """The options as the ONNX plugin takes them. Raises OptionError where they don't go together."""
    in_blocks = options.mode == "int4"
    return onnx.QuantizeOptions(
        mode=MODES[options.mode],
        preset="tensorrt",
        activations=options.activations,
        calibrator=options.calibrator,
        percentile=options.percentile,
        bits=4 if in_blocks else 8,
        block_size=options.block_size if in_blocks else None,
        exclude=options.exclude,
        explain=options.explain,
    )
