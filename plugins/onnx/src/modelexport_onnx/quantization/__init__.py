"""Quantizing an ONNX artifact: choose, apply, measure, explain.

machine.py    what this processor computes in 8 bits
recipes.py    presets, and the configurations to try for a machine and a graph
graph.py      the floating-point graph: its layers, weights and types
rewrite.py    smoothing of activations, embeddings row by row, weights behind a DequantizeLinear
apply.py      a recipe applied, by ONNX Runtime's quantizers; calibration that streams
simulate.py   one model with a switch for each layer: the sensitivity of each
search.py     which layers must stay at higher precision for a budget to hold
explain.py    the account: ranges, errors, time, warnings
attempt.py    one recipe from beginning to end
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelexport.contract import Build, QuantizationReport, QuantizedLayer, Trial
from modelexport.errors import ConversionError, OptionError
from modelexport.toolkit import load_golden

from .. import halves, modelfile
from . import graph, recipes
from .attempt import Attempt, Bench

if TYPE_CHECKING:
    from modelexport.contract import Artifact, Calibration, Goal

    from .. import QuantizeOptions
    from .recipes import Recipe

#: nodes that the notes name
NAMED = 5

#: how much slower than the floating-point model `auto` lets the quantized one be, noise included
NO_SLOWER = 1.03

#: what `auto` may lose of the score where no --max-drop is given, relative to the artifact's own
AUTO_DROP = 0.002


def quantize(
    artifact: Artifact,
    out: Path,
    options: QuantizeOptions,
    calibration: Calibration | None,
    goal: Goal,
    recipe: Recipe | None = None,
) -> Build:
    """Write a quantized copy of the artifact's model into `out`, by `recipe` where one is given.

    With `goal.max_drop` (and always in `auto`) layers are left at higher precision until the budget holds. In
    `auto` the first recipe that holds it and is measured to be no slower than the model as it was is taken.
    Raises ConversionError where `auto` finds none, OptionError for what can't be.
    """
    if artifact.precision != "float32":
        raise OptionError(
            f"{artifact.path} is {artifact.precision}: int8 is made from float32", "quantize the float32 artifact"
        )
    if options.mode == "float16":
        return _halved(artifact, out, options)
    model = graph.load(artifact.entry_path)
    bench = Bench(artifact, model, load_golden(artifact.golden).cases)
    layers = graph.Graph(model).layers(bench.shapes(goal.samples[0]))
    if not layers and not graph.Graph(model).embeddings():
        raise ConversionError(
            "the model has nothing to quantize: no float32 weights of a matrix product, convolution, LSTM or GRU, "
            "and no embeddings",
            "for a smaller model of another kind, try --mode float16",
        )
    candidates = [recipe] if recipe else recipes.choose(options, layers, calibration is not None)
    automatic = options.mode == "auto" and options.preset != "tensorrt"  # whose speed can't be measured here
    limit = goal.max_drop if goal.max_drop is not None else AUTO_DROP * abs(goal.baseline) if automatic else None
    attempts: list[Attempt] = []
    for candidate in candidates:
        attempt = Attempt.make(candidate, model, bench, options, calibration, goal, limit)
        if not attempt.changed and not automatic:
            raise ConversionError(
                f"{options.mode} quantization changes nothing in this model: its layers are "
                f"{', '.join(sorted({layer.kind for layer in layers}) or ['embeddings'])}",
                "leave --mode out, choose another, or name the operators with -k op-types=…",
            )
        attempts.append(attempt)
        # Folded weights make the same graph once it is loaded: what seems slower there is the machine.
        no_slower = candidate.kind == "folded" or attempt.worst <= NO_SLOWER
        if not automatic or (attempt.holds and no_slower):
            return _build(attempts, out, artifact, options, goal)
    if goal.max_drop is not None and not any(attempt.holds for attempt in attempts):
        attempts.append(min(attempts, key=lambda attempt: attempt.drop))  # core says that it falls short
        return _build(attempts, out, artifact, options, goal)
    raise ConversionError(
        "no 8-bit form of this model keeps its accuracy and is no slower here: " + "; ".join(map(str, attempts)),
        "choose one with --mode to get it all the same",
    )


def _build(
    attempts: Sequence[Attempt], out: Path, artifact: Artifact, options: QuantizeOptions, goal: Goal
) -> Build:
    final = attempts[-1]
    modelfile.save(final.quantized, out / modelfile.FILE)
    report = QuantizationReport(
        mode=final.recipe.kind,
        settings=_settings(final.recipe, options),
        layers=final.layers() if options.explain else (),
        trials=tuple(trial for attempt in dict.fromkeys(attempts) for trial in attempt.trials),
        warnings=tuple(final.warnings()) if options.explain else (),
        calibrated=final.recipe.kind == "static",
    )
    details = {"operators": modelfile.operators(final.quantized), "session": dict(final.config)}
    precision = final.recipe.precision if final.changed else artifact.precision
    return Build(modelfile.FILE, ("onnx", "onnxruntime"), precision, details, tuple(final.notes()), report)


def _halved(artifact: Artifact, out: Path, options: QuantizeOptions) -> Build:
    """Half precision, but for what overflows; kept although a CPU may compute it more slowly."""
    if options.exclude or options.op_types or options.preset == "tensorrt":
        raise OptionError(
            "mode float16 takes no preset tensorrt, op-types or exclude", "use mx optimize -k precision=float16"
        )
    cases = load_golden(artifact.golden).cases
    model = graph.load_float(artifact.entry_path)
    halved, kept = halves.convert(model, "float16", cases)
    modelfile.save(halved, out / modelfile.FILE)
    latency = Bench(artifact, model, cases).latency(halved, {})
    trial = Trial("float16", latency=latency, size=halved.ByteSize(), verdict="kept as asked")
    layers = tuple(QuantizedLayer(name, "", "float32", note=reason) for name, reason in kept.items())
    report = QuantizationReport("float16", {}, layers, (trial,))
    notes = [f"{name} stays in float32: {reason}" for name, reason in list(kept.items())[:NAMED]]
    if len(kept) > NAMED:
        notes.append(f"{len(kept) - NAMED} more nodes stay in float32: see `mx inspect --quantization`")
    details = {"operators": modelfile.operators(halved)}
    return Build(modelfile.FILE, ("onnx", "onnxruntime"), "float16", details, tuple(notes), report)


def _settings(recipe: Recipe, options: QuantizeOptions) -> dict[str, object]:
    from dataclasses import asdict

    hidden = ("kind", "why", "write", "elsewhere")
    shown = {key: value for key, value in asdict(recipe).items() if key not in hidden}
    return {"preset": options.preset, **shown, "exclude": list(options.exclude)}
