"""For targets that consume ONNX: model files and what is in them, and a quantized copy to compile. Stable names.

FILE                the name of the model's file in every ONNX artifact
load_graph          an `onnx.ModelProto` without its large weights
copy                a model's file with its external data, into another folder
nodes, foreign      every node, those of branches and loops too; those of other domains than ONNX's own
place               the module and source line of the user's model that a node comes from
types, precision    the types in a model, and what it computes in
outputs             the outputs as a file declares them
running             what a session on ONNX Runtime reads of an artifact's details, for a `StandIn`
QuantizeOptions     the options of `mx quantize` for ONNX artifacts
check_calibrated    refuses a quantization that takes data where there is none
quantized           a quantized copy of an ONNX artifact, proven on ONNX Runtime
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import QuantizeOptions
from .choices import check_calibrated
from .contents import STANDARD, foreign, nodes, outputs, place, precision, types
from .files import FILE, copy, load_graph
from .session import running

if TYPE_CHECKING:
    from modelexport.contract import Artifact, Calibration, Goal

__all__ = [
    "FILE",
    "STANDARD",
    "QuantizeOptions",
    "check_calibrated",
    "copy",
    "foreign",
    "load_graph",
    "nodes",
    "outputs",
    "place",
    "precision",
    "quantized",
    "running",
    "types",
]


def quantized(
    artifact: Artifact, folder: Path, options: QuantizeOptions, calibration: Calibration | None, goal: Goal
) -> Artifact:
    """A quantized copy of an ONNX artifact in `folder`, as `mx quantize` makes it, with its proof and its report.

    The proof is on real samples where there are any, else on the artifact's golden data. Raises OptionError and
    ConversionError as `mx quantize` does, and ConversionError for a copy that is over the budget of its precision
    where the goal doesn't say what may be lost.
    """
    from modelexport.toolkit import load_golden

    from . import quantize
    from .quantize import proof

    build = quantize.quantize(artifact, folder, options, calibration, goal)
    copied = replace(
        artifact,
        path=folder,
        entry=build.entry,
        precision=build.precision or artifact.precision,
        details=build.details,
        notes=build.notes,
        quantization=build.quantization,
    )
    real = calibration is not None
    cases = proof.answered(artifact, goal) if real else load_golden(artifact.golden).cases
    copied = replace(copied, parity=proof.proven(copied, cases))
    if goal.max_drop is None:
        proof.check(copied)
    return copied
