"""Quantized copies of an engine: explicit quantization of its ONNX model, measured on ONNX Runtime, built again.

The scales, the search for layers to leave, and the account are the ONNX plugin's; what differs is how the nodes
are written (`precision`), and that nothing is timed here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import QuantizationReport, StandIn
from modelexport.errors import CannotRunHere, OptionError
from modelexport.toolkit import GoldenCase, load_golden
from modelexport_onnx import modelfile

from . import build, export, precision
from .precision import blocks, float8, gate, halving, qdq

if TYPE_CHECKING:
    from modelexport.contract import Artifact, Build, Calibration, Goal
    from modelexport_onnx.quantization.recipes import Recipe

    from . import QuantizeOptions

#: the quantized ONNX model in float32, with every half rounded: what a machine without a GPU measures
MEASURED = f"{export.SOURCE}/measured.onnx"

#: samples that the ONNX model is verified on before the engine is built, at most
VERIFIED_ON = 6


def quantize(
    artifact: Artifact, out: Path, options: QuantizeOptions, calibration: Calibration | None, goal: Goal | None
) -> Build:
    """Write an engine of the artifact's model in int8, fp8 or int4 into `out`, and the ONNX model it is made of.

    Raises OptionError for what can't be, before any work; ConversionError where the quantized model is over its
    precision's budget on ONNX Runtime and no `max_drop` says what it may lose, and what `build.engine` raises.
    """
    given = export.source_of(artifact)
    wanted = replace(export.like(artifact, options.mode), keep_onnx=True)
    recipe = recipe_of(options, calibration is not None)
    build.request(given.path, wanted, given.inputs, options.mode)
    if goal is None:
        raise CannotRunHere(f"{artifact.path} names no model to measure on", "export it again")
    from modelexport_onnx import session

    with tempfile.TemporaryDirectory(prefix="mx-tensorrt-") as folder:
        path = Path(folder) / modelfile.FILE
        made = _onnx(artifact, Path(folder), options, recipe, calibration, goal)
        real = list(_answered(given.path, goal))
        own = load_golden(artifact.golden).cases
        measured = _finished(path, options, [*own, *real])
        judged = real if calibration is not None else own
        verdict = gate.verify(measured, options.mode, judged, raises=goal.max_drop is None)
        finished = export.finish(
            path, out, wanted, given.inputs, given.outputs, options.mode, verdict.to_json(), keep=path
        )
    modelfile.save(measured, out / MEASURED)
    return replace(
        finished,
        quantization=_report(made, options),
        stand_in=StandIn("onnx", MEASURED, {"session": session.AS_WRITTEN}),
        notes=(*made.notes, *finished.notes),
        tools=(*finished.tools, "onnxruntime"),
    )


def recipe_of(options: QuantizeOptions, calibrated: bool) -> Recipe:
    """How the ONNX plugin's machinery is to quantize. Raises OptionError."""
    from modelexport_onnx.quantization.recipes import Recipe

    if options.mode == "int4":
        precision.check_block_size(options.block_size)

        def in_blocks(model: Any, left: Collection[str], _: Any) -> Any:
            blocks.check_fits(model, options.block_size)
            return blocks.write(qdq.upgraded(model, blocks.OPSET), left, options.block_size)

        return Recipe(
            "blockwise", bits=4, block_size=options.block_size, smooth=False, embeddings=False, write=in_blocks,
            elsewhere=True,
        )  # fmt: skip
    if not calibrated:
        raise OptionError(f"{options.mode} takes the ranges of activations from data", "give --calibration")
    static = _static(options)
    if options.mode == "int8":
        return static
    if options.calibrator == "entropy":
        raise OptionError("calibrator=entropy looks for ranges of 8-bit integers", "give minmax or percentile")

    def in_float8(model: Any, left: Collection[str], ranges: Any) -> Any:
        return float8.write(qdq.upgraded(model, float8.OPSET), left, ranges)

    return replace(static, activation="fp8", weight="fp8", per_channel=False, smooth=False, write=in_float8)


def _static(options: QuantizeOptions) -> Recipe:
    from modelexport_onnx.quantization import recipes

    (chosen,) = recipes.choose(_onnx_options(options), (), True)
    return replace(chosen, elsewhere=True)


def _onnx_options(options: QuantizeOptions) -> Any:
    from modelexport_onnx import QuantizeOptions as OnnxOptions

    return OnnxOptions(
        preset="tensorrt", calibrator=options.calibrator, percentile=options.percentile, exclude=options.exclude,
        explain=options.explain,
    )  # fmt: skip


def _onnx(
    artifact: Artifact,
    folder: Path,
    options: QuantizeOptions,
    recipe: Recipe,
    calibration: Calibration | None,
    goal: Goal,
) -> Build:
    """The quantized model in `folder`, its activations in float32, and the account of it."""
    from modelexport_onnx import quantization

    source = replace(artifact, format="onnx", entry=export.ONNX, precision="float32", details={})
    return quantization.quantize(source, folder, _onnx_options(options), calibration, goal, recipe)


def _finished(path: Path, options: QuantizeOptions, cases: Sequence[GoldenCase]) -> Any:
    """Give the model of `path` the activations asked for, and return the form that ONNX Runtime computes alike.

    `cases` tell what would overflow.
    """
    from modelexport_onnx import halves

    model = modelfile.load(path)
    if options.activations == "fp32":
        return model
    model, _ = halving.halved(model, "float16", cases)
    modelfile.save(model, path)
    return halves.simulated(model, "float16")


def _answered(source: Path, goal: Goal) -> Iterator[GoldenCase]:
    """Real samples, with what the float32 model says to them."""
    from modelexport_onnx import RunOptions, session

    runtime = session.open_file(source, RunOptions(providers=("cpu",)))
    call = session.caller(runtime, [value.name for value in runtime.get_outputs()])
    for number, sample in enumerate(goal.samples[:VERIFIED_ON]):
        yield GoldenCase(f"sample {number}", sample, call(sample))


def _report(made: Build, options: QuantizeOptions) -> QuantizationReport:
    report = made.quantization
    assert report is not None
    settings = {key: value for key, value in report.settings.items() if key not in _ELSEWHERE}
    others = {"fp16": "float16", "fp32": "float32"}[options.activations]
    layers = tuple(
        replace(each, precision=others) if each.precision == "float32" else each for each in report.layers
    )
    settings["activations"] = options.activations
    return replace(report, mode=options.mode, layers=layers, settings=settings)


#: settings of recipes for other runtimes
_ELSEWHERE = ("preset", "activation", "reduce_range", "format", "fallback", "embeddings", "bias")
