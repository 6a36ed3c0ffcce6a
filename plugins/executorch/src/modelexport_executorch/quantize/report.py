"""The account of one quantization: what became of each layer, how it was done, and what spoils the result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from modelexport.contract import QuantizationReport, QuantizedLayer

from . import apply
from .layers import Layer
from .search import Choice
from .work import Work

if TYPE_CHECKING:
    from modelexport.contract import Calibration

#: samples below which ranges of activations are doubtful
FEW = 32


def report(work: Work, choice: Choice, calibration: Calibration | None) -> QuantizationReport:
    """The account of what was chosen, without the score, which core measures."""
    return QuantizationReport(
        work.mode,
        _settings(work),
        tuple(_layers(work, choice)),
        choice.trials,
        tuple(_warnings(work, calibration)),
        calibrated=calibration is not None and work.mode == "static",
    )


def _settings(work: Work) -> dict[str, Any]:
    return {
        "bits": work.bits,
        "quantizer": "XNNPACKQuantizer" if work.bits == 8 else "torchao",
        "weights": "per channel" if work.bits == 8 else f"groups of {work.group_size}",
        "activations": "calibrated int8" if work.mode == "static" else "int8, scaled as they come",
    }


def _layers(work: Work, choice: Choice) -> Iterator[QuantizedLayer]:
    """What became of each layer of the program."""
    integers = apply.integer_layers(work, choice.module)
    precision = "int8" if work.bits == 8 else "int4 weights"
    for name, layer in work.layers.items():
        if name in integers:
            saved = int(layer.bytes * (1 - work.bits / 32))
            yield QuantizedLayer(name, layer.kind, precision, layer.range, bytes_saved=saved)
        else:
            note = _reason(work, choice, name, layer)
            yield QuantizedLayer(name, layer.kind, "float32", layer.range, note=note)


def _reason(work: Work, choice: Choice, name: str, layer: Layer) -> str:
    """Why a layer is in float32."""
    if name in work.excluded:
        return "excluded"
    if name in choice.left:
        return "it suffers most: it is left out"
    if layer.kind == "embedding":
        return "XNNPACK looks nothing up: tables stay as they are"
    if work.bits == 4:
        return "4 bits are for linear layers whose inputs come in whole groups"
    return f"XNNPACK's quantizer has no {work.mode} form of this {layer.kind}"


def _warnings(work: Work, calibration: Calibration | None) -> Iterator[str]:
    if work.mode != "static":
        return
    if calibration is None:
        yield "calibrated on the golden cases, random inputs: give --calibration with real ones"
    elif len(calibration) < FEW:
        yield f"calibrated on {len(calibration)} samples: a hundred or so calibrate well"
    if any(layer.kind == "embedding" for layer in work.layers.values()):
        yield "static ranges hold badly for transformers: compare with -k mode=dynamic"
