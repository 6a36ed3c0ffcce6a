"""What became of every weight and operator of a quantized package, read back from the file that was written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Build, QuantizationReport, QuantizedLayer
from modelexport.toolkit import left_as_they_are

from .. import files
from ..backend import coremltools
from ..files import FILE

if TYPE_CHECKING:
    from modelexport.contract import Array

    from .. import QuantizeOptions
    from .activations import Activation
    from .weights import Weight

#: what coremltools appends to the name of a constant that it compresses
_SUFFIX = re.compile(r"_(quantized|palettized|sparsified)$")

_UNCALIBRATED = (
    "the ranges of activations come from the gate's generated inputs: give real ones with --calibration"
)


@dataclass(frozen=True)
class _Stored:
    """A compressed constant in the file: the bytes that it takes, and the values that the program reads."""

    size: int
    values: Array


def build(
    artifact: Artifact,
    out: Path,
    weights: Sequence[Weight],
    operators: Sequence[Activation],
    options: QuantizeOptions,
    calibrated: bool,
) -> Build:
    """The account of the package in `out`: its weights, and the operators whose activations could be quantized."""
    program = files.load_program(out / FILE)
    calibrated = bool(operators) and calibrated
    warnings = (_UNCALIBRATED,) if operators and not calibrated else ()
    layers = _layers(dict(_stored(program)), weights, operators, options)
    report = QuantizationReport(options.mode, _settings(options), layers, warnings=warnings, calibrated=calibrated)
    precision = _precision(options)
    notes = left_as_they_are(layers)
    if options.mode == "prune":
        notes.append(f"pruned weights are float still; they are judged with the budget of {precision}")
    details = {**artifact.details, "operators": files.count_operators(program)}
    return Build(FILE, ("coremltools",), precision, details, tuple(notes), report)


def _precision(options: QuantizeOptions) -> str:
    """The budget: six bits and more as int8, fewer as int4; pruning more than half as int4."""
    coarse = options.sparsity > 0.5 if options.mode == "prune" else options.bits < 6
    return "int4" if coarse else "int8"


def _settings(options: QuantizeOptions) -> dict[str, Any]:
    if options.mode == "prune":
        return {"sparsity": options.sparsity}
    if options.mode == "palettize":
        return {"bits": options.bits, "algorithm": options.algorithm, "group_size": options.group_size}
    granularity = f"blocks of {options.block_size}" if options.bits == 4 else "per channel"
    return {"bits": options.bits, "granularity": granularity}


# --------------------------------------------------------------------------------------- what is stored


def _stored(program: Any) -> Iterator[tuple[str, _Stored]]:
    """The compressed constants of a program, by the names that they had before."""
    from ..interpreter.program import evaluate_constants

    values = evaluate_constants(program)
    for op in files.operations(program):
        if not op.op_type.startswith("constexpr_"):
            continue
        inputs = [var for var in op.inputs.values() if var is not None and var.op is not None]
        size = sum(_bits(var) // 8 for var in inputs if var.op.op_type == "const")
        for var in op.outputs:
            yield _SUFFIX.sub("", var.name), _Stored(size, values[id(var)].numpy())


def _bits(var: Any) -> int:
    import numpy as np

    types = coremltools("converters.mil.mil.types")
    if not isinstance(var.val, np.ndarray):
        return 0
    return int(var.val.size) * int(var.dtype.get_bitwidth() if types.is_int(var.dtype) else var.val.itemsize * 8)


# --------------------------------------------------------------------------------------- layers


def _layers(
    stored: Mapping[str, _Stored],
    weights: Sequence[Weight],
    operators: Sequence[Activation],
    options: QuantizeOptions,
) -> tuple[QuantizedLayer, ...]:
    """A layer for each weight, with the activations of the operator that reads it; then the other operators."""
    readers, activations = {weight.reader for weight in weights}, {each.name: each for each in operators}
    layers = [
        _layer(weight, stored.get(weight.name), activations.get(weight.reader), options) for weight in weights
    ]
    return (*layers, *(_operator(each) for each in operators if each.name not in readers))


def _layer(
    weight: Weight, stored: _Stored | None, activation: Activation | None, options: QuantizeOptions
) -> QuantizedLayer:
    values, span = weight.values, _span(weight.values)
    if stored is None:
        note = weight.kept or "coremltools could not compress it, for its shape"
        return QuantizedLayer(weight.name, weight.kind, f"float{values.dtype.itemsize * 8}", span, note=note)
    saved = max(0, values.nbytes - stored.size)
    note = f"weights at {_sqnr(values, stored.values):.1f} dB"
    precision, measured = _described(options), None
    if activation is not None:
        precision, measured = precision if activation.kept else "int8", activation.range
        note = f"{note}; activations: {activation.kept}" if activation.kept else note
    return QuantizedLayer(weight.name, weight.kind, precision, span, measured, bytes_saved=saved, note=note)


def _operator(activation: Activation) -> QuantizedLayer:
    """An operator without a weight of its own, such as an addition."""
    precision = "float16" if activation.kept else "int8"
    return QuantizedLayer(
        activation.name, activation.kind, precision, activation_range=activation.range, note=activation.kept
    )


def _span(values: Array) -> tuple[float, float] | None:
    import numpy as np

    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else None


def _described(options: QuantizeOptions) -> str:
    return {
        "activations": "int8 weights",
        "linear": f"int{options.bits} weights",
        "palettize": f"{options.bits}-bit palette",
        "prune": f"{options.sparsity:.0%} zeros",
    }[options.mode]


def _sqnr(original: Array, stored: Array) -> float:
    import numpy as np

    wide = original.astype(np.float64).reshape(-1)
    noise = float(((wide - stored.astype(np.float64).reshape(-1)) ** 2).sum())
    return float(10 * np.log10((wide**2).sum() / noise)) if noise > 0 else float("inf")
