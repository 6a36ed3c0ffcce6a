"""Weights in fewer bits, by coremltools.optimize: integers, palettes, pruning; and 8-bit activations."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Build, QuantizationReport, QuantizedLayer
from modelexport.errors import ConversionError, OptionError, first_line, is_disk_error
from modelexport.toolkit import load_golden

from . import activations, package
from .package import FILE, quiet

if TYPE_CHECKING:
    from modelexport.contract import Arrays, Calibration

    from . import QuantizeOptions

#: the specification that knows 4-bit integers and blocks: iOS 18, macOS 15
_IOS18 = 9

#: the one that knows operators that quantize: iOS 17, macOS 14
_IOS17 = 8

#: rows of calibration data at a time
_ROWS = 32

#: values from which a constant is worth compressing
_LARGE = 2048


@dataclass(frozen=True)
class Weight:
    """A constant that is large enough to compress: its values, and the operator that reads it."""

    name: str
    values: Any
    kind: str
    kept: str = ""
    reader: str = ""


@dataclass(frozen=True)
class Activation:
    """An operator that could compute with 8-bit activations: the range of its input, and why it does not."""

    name: str
    kind: str
    range: tuple[float, float] | None = None
    kept: str = ""


def quantize(artifact: Artifact, out: Path, options: QuantizeOptions, calibration: Calibration | None) -> Build:
    """Write a copy of the artifact with compressed weights, and 8-bit activations where asked, into `out`.

    Constants with infinities (masks) stay as they are, since no scale or palette holds them. Raises OptionError
    for what can't be asked, ConversionError where coremltools fails or nothing is left to compress.
    """
    _check(options)
    with quiet():
        import coremltools as ct

        model = ct.models.MLModel(str(artifact.entry_path), skip_model_load=True)
    _check_system(model.get_spec().specificationVersion, artifact, options)
    computed: list[Activation] = []
    if options.mode == "activations":
        model, computed = _with_activations(model, artifact, options, calibration)
    with quiet():
        size = _size(model, options)
        weights = list(_weights(model, size, options))
        if all(weight.kept for weight in weights):
            raise ConversionError(
                f"no constant of the model can be compressed: {len(weights)} have {size} values or more",
                "give a smaller -k min-size=, and exclude less",
            )
        _compressed(model, weights, size, options).save(str(out / FILE))
    return _build(artifact, out, weights, computed, options, bool(computed) and calibration is not None)


_UNCALIBRATED = (
    "the ranges of activations come from the gate's generated inputs: give real ones with --calibration"
)


def _with_activations(
    model: Any, artifact: Artifact, options: QuantizeOptions, calibration: Calibration | None
) -> tuple[Any, list[Activation]]:
    """The model with 8-bit activations, and the account of them. Raises ConversionError where there are none."""
    program = package.load_program(artifact.entry_path)
    found = activations.ranges(artifact, program, _samples(artifact, calibration))
    each = list(activations.candidates(program, found, options.exclude))
    if all(kept for _, kept in each):
        raise ConversionError(
            f"the model has no operator whose activations coremltools quantizes: {', '.join(activations.KINDS)}",
            "use -k mode=linear, for the weights alone",
        )
    with quiet():
        try:
            made = activations.quantized(model, found, [op.name for op, kept in each if kept])
        except Exception as error:
            raise _failed(error, "quantize the activations") from error
    return made, [Activation(op.name, op.op_type, found.get(op.inputs["x"].name), kept) for op, kept in each]


def _samples(artifact: Artifact, calibration: Calibration | None) -> Iterator[Arrays]:
    if calibration is not None:
        return calibration.batches(_ROWS)
    return (case.inputs for case in load_golden(artifact.golden).cases)


def _check(options: QuantizeOptions) -> None:
    if options.mode == "activations" and options.bits != 8:
        raise OptionError(f"activations have no {options.bits}-bit integers", "give -k bits=8")
    if options.mode == "linear" and options.bits not in (8, 4):
        raise OptionError(f"linear quantization has no {options.bits}-bit integers", "give -k bits=8 or 4")
    if not 0 < options.sparsity < 1:
        raise OptionError(f"a sparsity of {options.sparsity:g} is none", "give a share between 0 and 1")
    sizes = (options.min_size, options.block_size, options.group_size or 1)
    if any(size is not None and size < 1 for size in sizes):
        raise OptionError("sizes are 1 or more", "leave out -k min-size, block-size and group-size")
    if (options.mode, options.algorithm) == ("palettize", "kmeans") and not find_spec("sklearn"):
        raise OptionError(
            "palettes by k-means need scikit-learn",
            "pip install 'modelexport-coreml[quantize]', or -k algorithm=uniform",
        )


def _check_system(version: int, artifact: Artifact, options: QuantizeOptions) -> None:
    if options.mode == "linear" and options.bits == 4 and version < _IOS18:
        raise OptionError(
            "4-bit integers need iOS 18", "export with -k deployment-target=iOS18, or use -k mode=palettize"
        )
    if options.mode != "activations":
        return
    if version < _IOS17:
        raise OptionError("8-bit activations need iOS 17", "export with -k deployment-target=iOS17")
    if artifact.precision != "float16":
        raise OptionError(
            "8-bit activations are for what the Neural Engine computes, in float16",
            "export with -k compute-precision=float16",
        )


def _size(model: Any, options: QuantizeOptions) -> int:
    """The number of values from which a constant is compressed."""
    import coremltools.optimize.coreml as cto

    if options.min_size is not None:
        return options.min_size
    return _LARGE if cto.get_weights_metadata(model, weight_threshold=_LARGE - 1) else 1


def _weights(model: Any, size: int, options: QuantizeOptions) -> Iterator[Weight]:
    import coremltools.optimize.coreml as cto
    import numpy as np

    for name, found in cto.get_weights_metadata(model, weight_threshold=size - 1).items():
        if found.val.dtype.kind != "f":
            continue
        kept = ""
        if not np.isfinite(found.val).all():
            kept = "it holds infinities"
        elif any(fnmatch.fnmatchcase(name, pattern) for pattern in options.exclude):
            kept = "excluded"
        reader = found.child_ops[0] if found.child_ops else None
        kind, name_of_reader = (reader.op_type, reader.name) if reader is not None else ("output", "")
        yield Weight(name, found.val, kind, kept, name_of_reader)


def _compressed(model: Any, weights: Sequence[Weight], size: int, options: QuantizeOptions) -> Any:
    import coremltools.optimize.coreml as cto

    threshold = size - 1
    each: Any
    if options.mode in ("linear", "activations"):
        apply, blocks = cto.linear_quantize_weights, options.bits == 4
        each = cto.OpLinearQuantizerConfig(
            mode="linear_symmetric",
            dtype=f"int{options.bits}",
            granularity="per_block" if blocks else "per_channel",
            block_size=options.block_size,
            weight_threshold=threshold,
        )
    elif options.mode == "palettize":
        apply = cto.palettize_weights
        each = cto.OpPalettizerConfig(mode=options.algorithm, nbits=options.bits, weight_threshold=threshold)
    else:
        apply = cto.prune_weights
        each = cto.OpMagnitudePrunerConfig(target_sparsity=options.sparsity, weight_threshold=threshold)
    config = cto.OptimizationConfig(global_config=each)
    grouped = _grouped(model, threshold, options)
    for weight in weights:
        if weight.kept:
            config.set_op_name(weight.name, None)
        elif grouped is not None and weight.values.shape[0] % options.group_size == 0:
            config.set_op_name(weight.name, grouped)
    try:
        return apply(model, config)
    except Exception as error:
        raise _failed(error, "compress the weights") from error


def _failed(error: Exception, doing: str) -> Exception:
    if is_disk_error(error):
        return error
    return ConversionError(
        f"coremltools can't {doing}: {type(error).__name__}: {first_line(error)}",
        "leave out constants with -k exclude=…, or try another -k mode=; --debug shows the trace",
    )


def _grouped(model: Any, threshold: int, options: QuantizeOptions) -> Any | None:
    """The configuration of a palette for each group of channels, where that is wanted and can be had."""
    import coremltools.optimize.coreml as cto

    if options.mode != "palettize" or not options.group_size or model.get_spec().specificationVersion < _IOS18:
        return None
    return cto.OpPalettizerConfig(
        mode=options.algorithm,
        nbits=options.bits,
        granularity="per_grouped_channel",
        group_size=options.group_size,
        channel_axis=0,
        weight_threshold=threshold,
    )


# --------------------------------------------------------------------------------------- account


def _build(
    artifact: Artifact,
    out: Path,
    weights: Sequence[Weight],
    computed: Sequence[Activation],
    options: QuantizeOptions,
    calibrated: bool,
) -> Build:
    program = package.load_program(out / FILE)
    stored = dict(_stored(program))
    inputs = {activation.name: activation for activation in computed}
    readers = {weight.reader for weight in weights}
    layers = tuple(_layer(weight, stored, inputs.get(weight.reader), options) for weight in weights) + tuple(
        _operator(activation) for activation in computed if activation.name not in readers
    )
    left = [layer for layer in layers if layer.precision.startswith("float")]
    precision = _precision(options)
    settings: dict[str, Any] = (
        {"bits": options.bits} if options.mode != "prune" else {"sparsity": options.sparsity}
    )
    if options.mode == "palettize":
        settings |= {"algorithm": options.algorithm, "group_size": options.group_size}
    elif options.mode in ("linear", "activations"):
        settings["granularity"] = f"blocks of {options.block_size}" if options.bits == 4 else "per channel"
    warnings = (_UNCALIBRATED,) if computed and not calibrated else ()
    report = QuantizationReport(options.mode, settings, layers, warnings=warnings, calibrated=calibrated)
    notes = [f"{layer.name} stays as it is: {layer.note}" for layer in left[:5]]
    if len(left) > 5:
        notes.append(f"{len(left) - 5} more constants stay as they are: see `mx inspect --quantization`")
    if options.mode == "prune":
        notes.append(f"pruned weights are float still; they are judged with the budget of {precision}")
    details = {
        **artifact.details,
        "operators": package.count(program),
    }
    return Build(FILE, ("coremltools",), precision, details, tuple(notes), report)


def _precision(options: QuantizeOptions) -> str:
    """The budget: six bits and more as int8, fewer as int4; pruning more than half as int4."""
    coarse = options.sparsity > 0.5 if options.mode == "prune" else options.bits < 6
    return "int4" if coarse else "int8"


def _stored(program: Any) -> Iterator[tuple[str, tuple[int, Any]]]:
    """Name of a weight → bytes that it takes in the file, and its values as the program reads them."""
    from .interpreter.program import evaluate_constants

    values = evaluate_constants(program)
    for op in package.operations(program):
        if not op.op_type.startswith("constexpr_"):
            continue
        inputs = [var for var in op.inputs.values() if var is not None and var.op is not None]
        size = sum(_bits(var) // 8 for var in inputs if var.op.op_type == "const")
        for var in op.outputs:
            yield var.name, (size, values[id(var)])


def _bits(var: Any) -> int:
    import numpy as np
    from coremltools.converters.mil.mil import types

    if not isinstance(var.val, np.ndarray):
        return 0
    return int(var.val.size) * int(var.dtype.get_bitwidth() if types.is_int(var.dtype) else var.val.itemsize * 8)


def _operator(activation: Activation) -> QuantizedLayer:
    """An operator without a weight of its own, such as an addition."""
    precision = "float16" if activation.kept else "int8"
    return QuantizedLayer(
        activation.name, activation.kind, precision, activation_range=activation.range, note=activation.kept
    )


def _layer(
    weight: Weight,
    stored: Mapping[str, tuple[int, Any]],
    activation: Activation | None,
    options: QuantizeOptions,
) -> QuantizedLayer:
    import numpy as np

    finite = weight.values[np.isfinite(weight.values)]
    span = (float(finite.min()), float(finite.max())) if finite.size else None
    own = f"float{weight.values.dtype.itemsize * 8}"
    found = next((value for name, value in stored.items() if name.startswith(weight.name)), None)
    if weight.kept or found is None:
        note = weight.kept or "coremltools could not compress it, for its shape"
        return QuantizedLayer(weight.name, weight.kind, own, span, note=note)
    size, values = found
    saved = max(0, weight.values.nbytes - size)
    note = f"weights at {_sqnr(weight.values, values.numpy()):.1f} dB"
    precision, seen = _described(options), None
    if activation is not None:
        precision, seen = precision if activation.kept else "int8", activation.range
        note = f"{note}; activations: {activation.kept}" if activation.kept else note
    return QuantizedLayer(weight.name, weight.kind, precision, span, seen, bytes_saved=saved, note=note)


def _described(options: QuantizeOptions) -> str:
    return {
        "activations": "int8 weights",
        "linear": f"int{options.bits} weights",
        "palettize": f"{options.bits}-bit palette",
        "prune": f"{options.sparsity:.0%} zeros",
    }[options.mode]


def _sqnr(original: Any, stored: Any) -> float:
    import numpy as np

    wide = original.astype(np.float64).reshape(-1)
    noise = float(((wide - stored.astype(np.float64).reshape(-1)) ** 2).sum())
    return float(10 * np.log10((wide**2).sum() / noise)) if noise > 0 else float("inf")
