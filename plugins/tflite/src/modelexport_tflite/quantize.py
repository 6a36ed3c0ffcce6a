"""Smaller and faster copies of a `.tflite` file, by ai-edge-quantizer, from the file itself."""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Build, QuantizationReport, QuantizedLayer, Trial
from modelexport.errors import ConversionError, MxError, OptionError, first_line, is_disk_error
from modelexport.toolkit import load_golden

from . import export, flatbuffer, metadata, naming, session
from .flatbuffer import FILE
from .terminal import quiet

if TYPE_CHECKING:
    from modelexport.contract import Arrays, Calibration, Goal

    from . import QuantizeOptions

#: samples that ranges are taken from, at most
_SAMPLES = 256

#: shares of the operators that a search leaves in float32, one after another
_SHARES = (0.0, 0.03, 0.08, 0.15, 0.25, 0.4, 0.6, 0.8)

#: layers that can quantize their inputs as they run
_DYNAMIC = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "EMBEDDING_LOOKUP")

_CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"}


@dataclass(frozen=True)
class Work:
    """What every attempt at one artifact needs: the float file, what was asked, and calibrated ranges."""

    artifact: Artifact
    model: Any
    mode: str
    options: QuantizeOptions
    ranges: Any = None

    @property
    def precision(self) -> str:
        return "float16" if self.mode == "float16" else "int8" if self.bits == 8 else "int4"

    @property
    def bits(self) -> int:
        return 8 if self.mode == "static" else self.options.bits


def quantize(
    artifact: Artifact,
    out: Path,
    options: QuantizeOptions,
    calibration: Calibration | None,
    goal: Goal | None,
) -> Build:
    """Write a copy of the artifact in fewer bits into `out`.

    With a goal that allows a drop only so large, what suffers most stays in float32 until the goal holds. Raises
    OptionError for what can't be asked, ConversionError where nothing can be quantized or the quantizer fails.
    """
    model = flatbuffer.read(artifact.entry_path)
    mode = _mode(model, options, calibration)
    work = Work(artifact, model, mode, options)
    if mode == "static":
        work = replace(work, ranges=_calibrated(artifact, calibration))
    excluded = _excluded(model, options.exclude)
    left, trials = _search(work, out, excluded, goal)
    details, layers = _described(work, out / FILE, excluded, left)
    report = QuantizationReport(
        mode,
        {"bits": work.bits, "io": options.io} if mode != "float16" else {},
        layers,
        trials,
        _warnings(mode, calibration, left),
        calibrated=mode == "static" and calibration is not None,
    )
    return Build(FILE, ("ai-edge-quantizer", "ai-edge-litert"), work.precision, details, quantization=report)


def _mode(model: Any, options: QuantizeOptions, calibration: Calibration | None) -> str:
    mode: str = options.mode
    if mode == "auto":
        convolutional = not _CONVOLUTIONS.isdisjoint(flatbuffer.operators(model, 0))
        mode = "static" if convolutional and calibration is not None else "dynamic"
    if options.io == "integer" and mode != "static":
        raise OptionError(f"-k io=integer goes with static quantization, not {mode}", "give -k mode=static")
    return mode


def _warnings(mode: str, calibration: Calibration | None, left: Sequence[str]) -> tuple[str, ...]:
    found = []
    if mode == "static" and calibration is None:
        found.append("ranges were taken from golden cases, random inputs: give --calibration")
    if left:
        found.append(
            f"{len(left)} operators take no calibrated ranges, to keep the accuracy: layers among them quantize "
            "what they get as they run, the others stay in float32"
        )
    return tuple(found)


def _excluded(model: Any, patterns: Sequence[str]) -> tuple[str, ...]:
    names = list(_operators(model))
    found = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise OptionError(
                f"-k exclude={pattern} matches no layer", f"layers: {', '.join(list(naming.layers(model))[:12])}"
            )
    return tuple(found)


def _operators(model: Any) -> dict[str, Any]:
    """Operator of the first signature by the name of what it writes."""
    graph = model.subgraphs[0]
    return {graph.tensors[op.outputs[0]].name.decode(): op for op in graph.operators if len(op.outputs)}


# --------------------------------------------------------------------------------------- one attempt


def _quantized(work: Work, path: Path, excluded: Iterable[str], left: Iterable[str] = ()) -> None:
    """Write the file with everything quantized that can be, but for the operators `excluded`.

    Of those `left` out of static quantization, layers keep int8 weights, and quantize what they get as they run.
    """
    with quiet():
        from ai_edge_quantizer import quantizer
        from ai_edge_quantizer.recipe import AlgorithmName, TFLOperationName

        try:
            made = quantizer.Quantizer(str(work.artifact.entry_path))
            _recipe(made, work)
            signatures = "|".join(re.escape(naming.prefix(each)) for each in work.model.signatureDefs or ())
            for name in (*excluded, *left):
                scope = rf"(^|;)({signatures})?{re.escape(name)};"
                made.update_quantization_recipe(
                    scope, TFLOperationName.ALL_SUPPORTED, None, AlgorithmName.NO_QUANTIZE
                )
                if work.mode == "static" and name in left:
                    for kind in _DYNAMIC:
                        made.add_dynamic_config(scope, TFLOperationName(kind), 8)
            result = made.quantize(work.ranges, enable_progress_report=False)
        except Exception as error:
            if is_disk_error(error):
                raise
            raise ConversionError(
                f"ai-edge-quantizer can't quantize the model: {type(error).__name__}: {first_line(error)}",
                "leave layers out with -k exclude=…, or try another -k mode=; --debug shows the trace",
            ) from error
    path.write_bytes(result.quantized_model)
    metadata.carry(work.artifact.entry_path, path)


def _recipe(made: Any, work: Work) -> None:
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.recipe import AlgorithmName, TFLOperationName

    every = TFLOperationName.ALL_SUPPORTED
    if work.mode == "dynamic":
        made.add_dynamic_config(".*", every, work.options.bits)
    elif work.mode == "weight-only":
        made.add_weight_only_config(".*", every, work.options.bits)
    elif work.mode == "float16":
        half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
        config = qtyping.OpQuantizationConfig(
            weight_tensor_config=half,
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        )
        made.update_quantization_recipe(".*", every, config, AlgorithmName.FLOAT_CASTING)
    else:
        made.add_static_config(".*", every, 8, 8)
        made.add_dynamic_config(".*", TFLOperationName.EMBEDDING_LOOKUP, 8)  # tables have no static form
        # an integer quotient by what rounds to zero fails at run time
        made.update_quantization_recipe(".*", TFLOperationName.DIV, None, AlgorithmName.NO_QUANTIZE)
        if work.options.io == "float":
            for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
                made.update_quantization_recipe(".*", end, None, AlgorithmName.NO_QUANTIZE)


def _calibrated(artifact: Artifact, calibration: Calibration | None) -> Any:
    """Ranges of every activation over the samples, by tensor."""
    samples: Iterable[Arrays] = calibration or [case.inputs for case in load_golden(artifact.golden).cases]
    written = session.writer(artifact)
    by_signature: dict[str, list[Arrays]] = {}
    for sample in itertools.islice(samples, _SAMPLES):
        key, arrays = written(sample)
        by_signature.setdefault(key, []).append(arrays)
    with quiet():
        from ai_edge_quantizer import calibrator, recipe, recipe_manager
        from ai_edge_quantizer.utils.qsv_utils import min_max_update

        every = recipe_manager.RecipeManager()
        every.load_quantization_recipe(recipe.static_wi8_ai8())
        # by default ranges are averages over time, which cut off what only some samples reach
        made = calibrator.Calibrator(str(artifact.entry_path), num_threads=1, qsv_update_func=min_max_update)
        try:
            made.calibrate(by_signature, every)
            ranges = made.get_model_qsvs()
        except Exception as error:
            raise ConversionError(
                f"calibration failed: {type(error).__name__}: {first_line(error)}", "--debug shows the trace"
            ) from error
    return _shared(ranges, [f"{key}/" for key in artifact.details.get("signatures", {})])


def _shared(ranges: Mapping[str, Any], prefixes: Sequence[str]) -> dict[str, Any]:
    """Ranges for the tensors of every signature, from the samples of all: these are the same at other sizes."""
    import numpy as np

    wide: dict[str, Any] = {}
    for tensor, seen in ranges.items():
        name = next((tensor.removeprefix(p) for p in prefixes if tensor.startswith(p)), tensor)
        known = wide.setdefault(name, dict(seen))
        if "min" in seen:
            known["min"], known["max"] = (
                np.minimum(known["min"], seen["min"]),
                np.maximum(known["max"], seen["max"]),
            )
    return {f"{prefix}{name}": seen for prefix in ("", *prefixes) for name, seen in wide.items()}


# --------------------------------------------------------------------------------------- keeping a goal


def _search(
    work: Work, out: Path, excluded: Sequence[str], goal: Goal | None
) -> tuple[tuple[str, ...], tuple[Trial, ...]]:
    """Write the copy; with a goal to hold, leave more and more of the most fragile operators in float32.

    Returns what was left besides `excluded`, and what was tried.
    """
    path = out / FILE
    _quantized(work, path, excluded)
    if goal is None or goal.max_drop is None:
        return (), ()
    ranked = [name for name in _fragile(work, path, goal) if name not in excluded]
    trials: list[Trial] = []
    best: tuple[float, int] | None = None
    for count in dict.fromkeys(round(share * len(ranked)) for share in _SHARES):
        left = tuple(ranked[:count])
        _quantized(work, path, excluded, left)
        drop = _drop(work, path, goal)
        holds = goal.holds(drop)
        what = f"{work.mode}, {count} operators left out" if count else work.mode
        size = path.stat().st_size
        trials.append(Trial(what, drop, left, size=size, verdict="kept" if holds else "drops too much"))
        if holds:
            return left, tuple(trials)
        best = min((drop, count), best or (drop, count))
    assert best is not None
    left = tuple(ranked[: best[1]])
    _quantized(work, path, excluded, left)
    return left, tuple(trials)


def _drop(work: Work, path: Path, goal: Goal) -> float:
    from . import RunOptions

    copy = replace(work.artifact, path=path.parent, entry=path.name)
    try:
        with session.open_artifact(copy, RunOptions()) as opened:
            return goal.drop(opened)
    except MxError:
        return 1.0  # a copy that doesn't run drops everything


def _fragile(work: Work, path: Path, goal: Goal) -> list[str]:
    """Operators, those first that lose most to 8 bits: the kinds that cost most when they alone are quantized, and
    within a kind by what rounding leaves of weights and activations."""
    noise: dict[str, float] = {}
    activations = _activations(work, goal) if work.mode == "static" else {}
    layers = naming.layers(work.model)
    graph = work.model.subgraphs[0]
    for name, operator in _operators(work.model).items():
        tensors = [graph.tensors[i].name.decode() for i in (*operator.inputs, *operator.outputs) if i >= 0]
        losses = [activations[tensor] for tensor in tensors if tensor in activations]
        if name in layers and work.mode != "static":
            losses.append(_weight_noise(layers[name][1], work.bits))
        if losses:
            noise[name] = max(losses)
    kinds = {name: flatbuffer.operator_name(work.model, op) for name, op in _operators(work.model).items()}
    costs = {}
    for kind in {kinds[name] for name in noise} if work.mode == "static" else ():
        _quantized(work, path, [name for name in kinds if kinds[name] != kind])
        costs[kind] = _drop(work, path, goal)
    return sorted(noise, key=lambda name: (-costs.get(kinds[name], 0.0), -noise[name]))


def _activations(work: Work, goal: Goal) -> dict[str, float]:
    """Tensor → what rounding to 8 bits of its calibrated range adds, over the typical size of a value.

    Typical is the geometric mean: a few values far out make the range, and must not hide what that costs.
    """
    import numpy as np

    with quiet():
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(work.artifact.entry_path), experimental_preserve_all_tensors=True)
    key, arrays = session.writer(work.artifact)(goal.samples[0])
    runner = interpreter.get_signature_runner(key)
    runner(**arrays)
    found = {}
    for detail in interpreter.get_tensor_details(runner._subgraph_index):
        seen = work.ranges.get(detail["name"])
        if seen is None or "min" not in seen or detail["dtype"] is not np.float32:
            continue
        values = np.asarray(interpreter.get_tensor(detail["index"], runner._subgraph_index), np.float64)
        low, high = min(float(np.min(seen["min"])), 0.0), max(float(np.max(seen["max"])), 0.0)
        step = max((high - low) / 255, 1e-30)
        rounded = np.rint(np.clip(values, low, high) / step) * step
        sizes = np.abs(values[values != 0])
        typical = float(np.exp(np.log(sizes).mean())) if sizes.size else 1.0
        found[detail["name"].removeprefix(f"{key}/")] = float(np.sqrt(((rounded - values) ** 2).mean())) / max(
            typical, 1e-30
        )
    return found


def _weight_noise(values: Any, bits: int) -> float:
    import numpy as np

    step = max(float(np.abs(values).max()) / (2 ** (bits - 1) - 1), 1e-30)
    noise = ((np.rint(values / step) * step - values) ** 2).sum()
    return float(noise / max((values**2).sum(), 1e-30))


# --------------------------------------------------------------------------------------- the account


def _described(
    work: Work, path: Path, excluded: Sequence[str], left: Sequence[str]
) -> tuple[dict[str, Any], tuple[QuantizedLayer, ...]]:
    """Details of the finished file, and what became of each layer. Raises ConversionError if nothing did."""
    made = flatbuffer.read(path)
    kept = ("signatures", "resized", "nhwc", "processing")
    carried = {key: work.artifact.details[key] for key in kept if key in work.artifact.details}
    details = {**export.describe(path, made), **carried, "io": work.options.io}
    precisions = _precisions(made)
    layers = []
    for name, (kind, values) in naming.layers(work.model).items():
        precision = precisions.get(name, "float32")
        note = (
            "excluded"
            if name in excluded
            else "its calibrated ranges lose most: they are left out"
            if name in left
            else ""
        )
        if precision == "float32" and not note:
            note = "ai-edge-quantizer has no such form of this operator"
        saved = 0 if precision == "float32" else int(values.nbytes * (1 - _bits(precision) / 32))
        span = (float(values.min()), float(values.max())) if values.size else None
        layers.append(
            QuantizedLayer(name, kind, precision, span, _range(work, name), bytes_saved=saved, note=note)
        )
    if not precisions:
        raise ConversionError(
            f"nothing of the model can be quantized in mode {work.mode}", "try another -k mode=, or exclude less"
        )
    return details, tuple(layers)


def _bits(precision: str) -> int:
    return 16 if "float16" in precision else 4 if "int4" in precision else 8


def _range(work: Work, name: str) -> tuple[float, float] | None:
    import numpy as np

    operator = _operators(work.model).get(name)
    if work.ranges is None or operator is None:
        return None
    tensor = work.model.subgraphs[0].tensors[operator.inputs[0]].name.decode()
    seen = work.ranges.get(tensor)
    return None if not seen or "min" not in seen else (float(np.min(seen["min"])), float(np.max(seen["max"])))


def _precisions(model: Any) -> Mapping[str, str]:
    """Operator → what it computes in, for those of the first signature that hold or take fewer bits."""
    graph = model.subgraphs[0]
    restored = {
        op.outputs[0]: op.inputs[0]
        for op in graph.operators
        if flatbuffer.operator_name(model, op) == "DEQUANTIZE"
    }
    found = {}
    for operator in graph.operators:
        if flatbuffer.operator_name(model, operator) in ("DEQUANTIZE", "QUANTIZE"):
            continue
        constants: set[str] = set()
        computed: set[str] = set()
        for index in (i for i in operator.inputs if i >= 0):
            tensor = graph.tensors[restored.get(index, index)]
            data = model.buffers[tensor.buffer].data
            kind = flatbuffer.dtype(tensor)
            if kind not in ("int8", "int4", "float16"):
                continue
            if data is not None and len(data):
                constants.add(kind)
            elif index not in restored:
                computed.add(kind)
        name = graph.tensors[operator.outputs[0]].name.decode()
        for end in ("_dequant", "_quantized"):
            name = name.removesuffix(end)
        if computed:
            found[name] = "int8"
        elif constants:
            found[name] = f"{min(constants)} weights"
    return found
