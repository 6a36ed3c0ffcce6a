"""Quantizing an ONNX artifact: choose, apply, measure, explain.

machine.py     what this processor computes in 8 bits
recipes.py     presets, and the configurations to try for a machine and a graph
prepare.py     the floating-point model made ready
smoothing.py   the same computed, with channels that are alike
weights.py     weights in 8 bits that are computed in float32
explicit.py    the nodes that tell a compiler its types: written by
float8.py        weights and activations in float8
blocks.py        weights in int4, in blocks
apply.py       a recipe applied, by ONNX Runtime's quantizers or those above; calibration that streams
simulate.py    one model with a switch for each layer: the sensitivity of each
bench.py       forms of one model, measured against the model as it was
explain.py     the account: ranges, errors, time, warnings
attempt.py     one recipe from beginning to end
halving.py     models that are cast to half precision
proof.py       a copy on ONNX Runtime beside the model it was made of, for targets that go on from it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Build, QuantizationReport, QuantizedLayer
from modelexport.errors import ConversionError, OptionError
from modelexport.toolkit import load_golden, matching

from .. import choices, contents, files
from ..graph import Graph
from . import halving, prepare, recipes
from .attempt import Attempt
from .bench import Bench

if TYPE_CHECKING:
    from modelexport.contract import Artifact, Calibration, Goal

    from .. import QuantizeOptions
    from ..graph import Layer
    from .recipes import Recipe

#: how much slower than the floating-point model `auto` lets the quantized one be, noise included
NO_SLOWER = 1.03

#: what `auto` may lose of the score where no --max-drop is given, relative to the artifact's own
AUTO_DROP = 0.002


def quantize(
    artifact: Artifact, out: Path, options: QuantizeOptions, calibration: Calibration | None, goal: Goal
) -> Build:
    """Write a quantized copy of the artifact's model into `out`.

    With `goal.max_drop` (and always in `auto`) layers are left at higher precision until the budget holds. In
    `auto` the first recipe that holds it and is measured to be no slower than the model as it was is taken.
    Raises ArtifactError for a model that is quantized already, ConversionError where `auto` finds no recipe,
    OptionError for what can't be.
    """
    contents.refuse_quantized(files.load_graph(artifact.entry_path))
    if artifact.precision != "float32":
        raise OptionError(
            f"{artifact.path} is {artifact.precision}: {_lower(options)} is made from float32",
            "quantize the float32 artifact",
        )
    if options.mode in choices.HALVES:
        return halving.quantize(artifact, out, options, goal)
    attempts = _attempts(artifact, options, calibration, goal)
    return _build(attempts, out, artifact, options, goal)


def _lower(options: QuantizeOptions) -> str:
    return options.mode if options.mode in (*choices.HALVES, "fp8") else "int8"


def _attempts(
    artifact: Artifact, options: QuantizeOptions, calibration: Calibration | None, goal: Goal
) -> list[Attempt]:
    """What was tried; the last is to be taken."""
    model = prepare.load(artifact.entry_path)
    bench = Bench(artifact, model, load_golden(artifact.golden).cases)
    layers = Graph(model).layers(bench.shapes(goal.samples[0]))
    if not layers and not Graph(model).embeddings():
        raise ConversionError(
            "the model has nothing to quantize: no float32 weights of a matrix product, convolution, LSTM or GRU, "
            "and no embeddings",
            "for a smaller model of another kind, try --mode float16",
        )
    automatic = options.mode == "auto" and options.preset != choices.TENSORRT  # whose speed can't be measured here
    kinds = matching((node.op_type for node in model.graph.node), options.op_types, "op-types", "operator")
    options = replace(options, op_types=tuple(sorted(kinds)))
    limit = goal.max_drop if goal.max_drop is not None else AUTO_DROP * abs(goal.baseline) if automatic else None
    attempts: list[Attempt] = []
    for candidate in recipes.choose(options, layers, calibration is not None):
        attempt = Attempt.make(candidate, model, bench, options, calibration, goal, limit)
        if not attempt.changed and not automatic:
            raise _nothing_done(options, layers, attempt)
        attempts.append(attempt)
        # Folded weights make the same graph once it is loaded: what seems slower there is the machine.
        no_slower = candidate.kind == "folded" or attempt.worst <= NO_SLOWER
        if not automatic or (attempt.changed and attempt.holds and no_slower):
            return attempts
    if not any(attempt.changed for attempt in attempts):
        raise _nothing_done(options, layers, attempts[-1])
    if goal.max_drop is not None and not any(attempt.holds for attempt in attempts):
        return [*attempts, min(attempts, key=lambda attempt: attempt.drop)]  # core says that it falls short
    raise ConversionError(
        "no 8-bit form of this model keeps its accuracy and is no slower here: " + "; ".join(map(str, attempts)),
        "choose one with --mode to get it all the same",
    )


def _nothing_done(options: QuantizeOptions, layers: Sequence[Layer], attempt: Attempt) -> ConversionError:
    """The error where no layer is in fewer bits: a copy in the precision asked for has at least one."""
    if attempt.left:
        return ConversionError(
            f"the accuracy holds only where all of {', '.join(sorted(attempt.left))} stay in float32",
            "let it fall further with --max-drop, or choose another --mode",
        )
    kinds = ", ".join(sorted({layer.kind for layer in layers}) or ["embeddings"])
    if options.mode == "auto":
        named = f" among {', '.join(options.op_types)}" if options.op_types else ""
        named += " that is not excluded" if options.exclude else ""
        return ConversionError(
            f"nothing here{named} is large enough for 8 bits to save anything: the layers are {kinds}",
            "leave the model as it is; -k op-types=… and -k exclude=… say what is left out",
        )
    return ConversionError(
        f"{options.mode} quantization changes nothing in this model: its layers are {kinds}",
        "leave --mode out, choose another, or name the operators with -k op-types=…",
    )


def _build(
    attempts: Sequence[Attempt], out: Path, artifact: Artifact, options: QuantizeOptions, goal: Goal
) -> Build:
    final = attempts[-1]
    model, details = halving.rest(final.quantized, artifact, options, goal)
    contents.keep_origins(files.load_graph(artifact.entry_path), model)
    files.save(model, out / files.FILE)
    rows = final.layers() if options.explain else ()
    report = QuantizationReport(
        mode=final.recipe.mode,
        settings=_settings(final.recipe, options),
        layers=_in_activations(rows, options),
        trials=tuple(trial for attempt in dict.fromkeys(attempts) for trial in attempt.trials),
        warnings=tuple(final.warnings()) if options.explain else (),
        calibrated=final.recipe.kind == "static",
    )
    details = {"operators": contents.operators(model), "session": dict(final.config), **details}
    tools, notes = ("onnx", "onnxruntime"), tuple(final.notes())
    return Build(files.FILE, tools, final.recipe.precision, details, notes, report)


def _in_activations(rows: Sequence[QuantizedLayer], options: QuantizeOptions) -> tuple[QuantizedLayer, ...]:
    """The rows, those of layers in floating point in what everything computes in that isn't quantized."""
    if options.activations == "fp32":
        return tuple(rows)
    return tuple(replace(each, precision="float16") if each.precision == "float32" else each for each in rows)


def _settings(recipe: Recipe, options: QuantizeOptions) -> dict[str, Any]:
    hidden = ("kind", "why", "writer", "elsewhere")
    shown = {key: value for key, value in asdict(recipe).items() if key not in hidden}
    asked = {"preset": options.preset, **shown, "exclude": list(options.exclude)}
    return asked | ({"activations": options.activations} if recipe.elsewhere else {})
