"""Weights in fewer bits: integers and scales, palettes, pruning, by coremltools.optimize.

Activations stay as they are: coremltools calibrates them on macOS only, through predictions.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.errors import ConversionError, OptionError, is_disk_error
from modelexport.plugins import first_line
from modelexport.quantization import Layer, Report
from modelexport.types import Artifact, Build

from . import package
from .package import FILE, quiet

if TYPE_CHECKING:
    from . import QuantizeOptions

#: the specification that knows 4-bit integers and blocks: iOS 18, macOS 15
_IOS18 = 9

#: values from which a constant is worth compressing
_LARGE = 2048


@dataclass(frozen=True)
class Weight:
    """A constant that is large enough to compress: its values, and the operator that reads it."""

    name: str
    values: Any
    kind: str
    kept: str = ""


def quantize(artifact: Artifact, out: Path, options: QuantizeOptions) -> Build:
    """Write a copy of the artifact with compressed weights into `out`.

    Constants with infinities (masks) stay as they are, since no scale or palette holds them. Raises OptionError
    for what can't be asked, ConversionError where coremltools fails or nothing is left to compress.
    """
    _check(options)
    with quiet():
        import coremltools as ct

        model = ct.models.MLModel(str(artifact.entry_path), skip_model_load=True)
        if options.mode == "linear" and options.bits == 4 and model.get_spec().specificationVersion < _IOS18:
            raise OptionError(
                "4-bit integers need iOS 18", "export with -k deployment-target=iOS18, or use -k mode=palettize"
            )
        size = _size(model, options)
        weights = list(_weights(model, size, options))
        if all(weight.kept for weight in weights):
            raise ConversionError(
                f"no constant of the model can be compressed: {len(weights)} have {size} values or more",
                "give a smaller -k min-size=, and exclude less",
            )
        _compressed(model, weights, size, options).save(str(out / FILE))
    return _build(artifact, out, weights, options)


def _check(options: QuantizeOptions) -> None:
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
        kept = ""
        if not np.isfinite(found.val).all():
            kept = "it holds infinities"
        elif any(fnmatch.fnmatchcase(name, pattern) for pattern in options.exclude):
            kept = "excluded"
        yield Weight(name, found.val, found.child_ops[0].op_type if found.child_ops else "output", kept)


def _compressed(model: Any, weights: Sequence[Weight], size: int, options: QuantizeOptions) -> Any:
    import coremltools.optimize.coreml as cto

    threshold = size - 1
    each: Any
    if options.mode == "linear":
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
        if is_disk_error(error):
            raise
        raise ConversionError(
            f"coremltools can't compress the weights: {type(error).__name__}: {first_line(error)}",
            "leave out constants with -k exclude=…, or try another -k mode=; --debug shows the trace",
        ) from error


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


def _build(artifact: Artifact, out: Path, weights: Sequence[Weight], options: QuantizeOptions) -> Build:
    program = package.load_program(out / FILE)
    stored = dict(_stored(program))
    layers = tuple(_layer(weight, stored, options) for weight in weights)
    left = [layer for layer in layers if layer.precision.startswith("float")]
    precision = _precision(options)
    settings: dict[str, Any] = (
        {"bits": options.bits} if options.mode != "prune" else {"sparsity": options.sparsity}
    )
    if options.mode == "palettize":
        settings |= {"algorithm": options.algorithm, "group_size": options.group_size}
    elif options.mode == "linear":
        settings["granularity"] = f"blocks of {options.block_size}" if options.bits == 4 else "per channel"
    report = Report(options.mode, settings, layers)
    notes = [f"{layer.name} stays as it is: {layer.note}" for layer in left[:5]]
    if len(left) > 5:
        notes.append(f"{len(left) - 5} more constants stay as they are: see `mx inspect --quantization`")
    if options.mode == "prune":
        notes.append(f"pruned weights are float still; they are judged with the budget of {precision}")
    details = {
        **artifact.details,
        "operators": package.count(program),
        "quantization": report.to_json(),
        "notes": notes,
    }
    return Build(FILE, ("coremltools",), precision, details)


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


def _layer(weight: Weight, stored: Mapping[str, tuple[int, Any]], options: QuantizeOptions) -> Layer:
    import numpy as np

    finite = weight.values[np.isfinite(weight.values)]
    span = (float(finite.min()), float(finite.max())) if finite.size else None
    own = f"float{weight.values.dtype.itemsize * 8}"
    found = next((value for name, value in stored.items() if name.startswith(weight.name)), None)
    if weight.kept or found is None:
        note = weight.kept or "coremltools could not compress it, for its shape"
        return Layer(weight.name, weight.kind, own, span, note=note)
    size, values = found
    saved = max(0, weight.values.nbytes - size)
    note = f"weights at {_sqnr(weight.values, values.numpy()):.1f} dB"
    return Layer(weight.name, weight.kind, _described(options), span, bytes_saved=saved, note=note)


def _described(options: QuantizeOptions) -> str:
    return {
        "linear": f"int{options.bits} weights",
        "palettize": f"{options.bits}-bit palette",
        "prune": f"{options.sparsity:.0%} zeros",
    }[options.mode]


def _sqnr(original: Any, stored: Any) -> float:
    import numpy as np

    wide = original.astype(np.float64).reshape(-1)
    noise = float(((wide - stored.astype(np.float64).reshape(-1)) ** 2).sum())
    return float(10 * np.log10((wide**2).sum() / noise)) if noise > 0 else float("inf")
