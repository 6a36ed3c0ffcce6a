"""The one builder call: ONNX → an engine's bytes and the account of it, for both flavours.

Networks are strongly typed: an engine computes in the types that the ONNX model has. The builder says at full
detail what it built, which is checked against what was asked: nothing else can be, where no GPU is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import modelexport_onnx.toolkit as onnx
from modelexport.contract import CompiledLayer, Dim, TensorSpec
from modelexport.errors import ConversionError, OptionError
from modelexport.toolkit import check_dtypes, stage

from . import backend, choices, files, flavours, listing, operators, profiles
from .flavours import Flavour

if TYPE_CHECKING:
    import tensorrt_rtx as rtx

    from . import ExportOptions
    from .profiles import Profile

#: types that TensorRT's inputs and outputs may have
TYPES = ("float32", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool")

#: precisions that must show in the engine's layers, where the model has them
_ASKED = ("float16", "bfloat16", "int8", "fp8", "int4", "nvfp4")


@dataclass(frozen=True)
class Request:
    """What to build: the ONNX model's file, for which GPUs and sizes."""

    path: Path
    model: Any
    flavour: Flavour
    sms: tuple[str, ...]
    profiles: tuple[Profile, ...]
    inputs: tuple[TensorSpec, ...]
    options: ExportOptions


def engine(
    path: Path,
    folder: Path,
    options: ExportOptions,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    precision: str,
) -> tuple[dict[str, Any], tuple[CompiledLayer, ...]]:
    """Write `folder/model.engine` from the ONNX model at `path`; returns its details, and its layers.

    Raises OptionError for options that contradict the model, the flavour or this machine, ConversionError for a
    model that TensorRT can't take (unsupported operators all at once), and for an engine that isn't as asked.
    """
    check_dtypes(inputs, outputs, TYPES.__contains__, "TensorRT")
    asked = request(path, options, inputs, precision)
    stage(f"build the engine for {', '.join(asked.sms)}")
    log, begun = backend.Log(), time.perf_counter()
    plan = _plan(asked, log)
    seconds = time.perf_counter() - begun
    written = folder / files.FILE
    written.write_bytes(plan)
    rows, tensors = listing.layers(log.lines), listing.tensors(log.lines)
    files.check_header(asked.flavour, written)
    if rows or asked.flavour.ahead:
        _check_tensors(tensors, inputs, outputs, asked.profiles)
        _check_precision(rows, precision)
    details: dict[str, Any] = {
        "flavour": asked.flavour.name,
        "sm": [flavours.gpus()[0] if name == flavours.CURRENT else name for name in asked.sms],
        "profiles": [profiles.text(each) for each in asked.profiles],
        "bounds": profiles.opened(inputs, asked.profiles),
        **({"narrowed": ["float64"]} if "float64" in onnx.types(asked.model) else {}),
        "precisions": listing.precisions(rows),
        "build_seconds": round(seconds, 2),
        "bytes": written.stat().st_size,
        "tensors": {tensor.name: str(tensor) for tensor in tensors},
    }
    return details, rows


def request(path: Path, options: ExportOptions, inputs: Sequence[TensorSpec], precision: str) -> Request:
    """What the options ask for, checked as far as that goes without the builder. Raises OptionError.

    `precision` is what the model is to compute in, in the end.
    """
    model = onnx.load_graph(path)
    flavour = flavours.choose(options.flavour)
    choices.check_machine(options, flavour)
    sms = flavours.resolve(flavour, options.sm, onnx.types(model) | {precision})
    spans = profiles.make(inputs, options.profile, options.bound)
    return Request(path, model, flavour, sms, spans, tuple(inputs), options)


# --------------------------------------------------------------------------------------- the builder


def _plan(asked: Request, log: backend.Log) -> Any:
    """The serialized engine, as a buffer."""
    trt = asked.flavour.load()
    said = backend.logger(trt, log)
    builder: rtx.Builder = trt.Builder(said)
    backend.load_plugins(builder, asked.options.plugins)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser: rtx.OnnxParser = trt.OnnxParser(network, said)
    parsed = parser.parse_from_file(str(asked.path))
    operators.check_parsed(parser, asked.model, asked.options.plugins)
    if not parsed:
        raise operators.failure(log.errors)
    config = _config(trt, builder, asked)
    for profile in asked.profiles or ({},):
        config.add_optimization_profile(_profile(builder, network, asked.inputs, profile))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise operators.failure(log.errors) from RuntimeError("\n".join(log.errors))
    _keep_timings(config, asked.options.timing_cache)
    return plan


def _config(trt: Any, builder: rtx.Builder, asked: Request) -> rtx.IBuilderConfig:
    options, config = asked.options, builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if asked.flavour.ahead:
        config.num_compute_capabilities = len(asked.sms)
        for number, name in enumerate(asked.sms):
            config.set_compute_capability(getattr(trt.ComputeCapability, name.upper()), number)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    flags = {
        trt.BuilderFlag.WEIGHT_STREAMING: options.weight_streaming,
        trt.BuilderFlag.REFIT: options.refit,
        trt.BuilderFlag.STRIP_PLAN: options.strip,
        trt.BuilderFlag.VERSION_COMPATIBLE: options.version_compatible,
    }
    for flag in (flag for flag, wanted in flags.items() if wanted):
        config.set_flag(flag)
    if options.timing_cache is not None:
        path = Path(options.timing_cache)
        config.set_timing_cache(config.create_timing_cache(path.read_bytes() if path.is_file() else b""), False)
    if options.dla is not None:
        _check_accelerator(builder, options.dla)
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = options.dla
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    return config


def _check_accelerator(builder: rtx.Builder, dla: int) -> None:
    """Raise OptionError for a core of the deep learning accelerator that isn't there."""
    if not 0 <= dla < builder.num_DLA_cores:
        raise OptionError(
            f"dla={dla}: this machine has {builder.num_DLA_cores} cores of a deep learning accelerator",
            "leave it out: only Jetson modules have one",
        )


def _keep_timings(config: rtx.IBuilderConfig, file: str | None) -> None:
    if file is not None:
        timings: Any = config.get_timing_cache().serialize()
        Path(file).write_bytes(timings)


def _profile(
    builder: rtx.Builder, network: rtx.INetworkDefinition, inputs: Sequence[TensorSpec], sizes: Profile
) -> rtx.IOptimizationProfile:
    profile = builder.create_optimization_profile()
    tensors = {network.get_input(number).name: network.get_input(number) for number in range(network.num_inputs)}
    for spec in inputs:
        if spec.dims:
            profile.set_shape(spec.name, *profiles.shapes(sizes, spec))
        if tensors[spec.name].is_shape_tensor:
            profile.set_shape_input(spec.name, *_values(spec))
    return profile


def _values(spec: TensorSpec) -> tuple[list[int], list[int], list[int]]:
    """The values of an input that sizes are reckoned from: least, usual and largest."""
    if not isinstance(spec.values, tuple) or spec.dims:
        raise ConversionError(
            f"the model takes sizes from the values of input {spec.name!r}, whose bounds are unknown",
            f"declare them: --input '{spec.name}:{spec.dtype}[…]=LOW..HIGH'",
        )
    count = 1
    for size in spec.shape:
        count *= size if isinstance(size, int) else 1
    low, high = int(spec.values[0]), int(spec.values[1])
    return [low] * count, [(low + high) // 2] * count, [high] * count


# --------------------------------------------------------------------------------------- what was built


def _check_tensors(
    tensors: Sequence[listing.Tensor],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    spans: Sequence[Profile],
) -> None:
    """Raise ConversionError for the first tensor of the engine that isn't the model's."""
    fixed = any(sizes.min == sizes.max for sizes in spans[0].values()) if spans else False
    for mode, specs in (("input", inputs), ("output", outputs)):
        by_name = {tensor.name: tensor for tensor in tensors if tensor.mode == mode}
        if set(by_name) != {spec.name for spec in specs}:
            raise _differs(f"has the {mode}s {', '.join(by_name) or 'none'}", ", ".join(s.name for s in specs))
        for spec in specs:
            tensor = by_name[spec.name]
            if tensor.dtype != spec.dtype:
                raise _differs(f"has {mode} {spec.name!r} in {tensor.dtype}", spec.dtype)
            if not _same_shape(tensor.shape, spec, mode == "output", fixed):
                raise _differs(f"has {mode} {spec.name!r} with shape {list(tensor.shape)}", str(spec))
            wanted = tuple(profiles.shapes(each, spec) for each in spans) if mode == "input" and spec.dims else ()
            if wanted and tensor.profiles != wanted:
                raise _differs(f"takes {spec.name!r} at {tensor.profiles}", str(wanted))


def _same_shape(shape: tuple[int, ...], spec: TensorSpec, is_output: bool, fixed: bool) -> bool:
    """Whether sizes are fixed and dynamic where the model's are.

    Of an output, TensorRT can't always tell that a size is fixed; and it lists the sizes of the first profile,
    which may have `fixed` ones.
    """

    def same(got: int, want: int | Dim) -> bool:
        if isinstance(want, Dim):
            return got == -1 or (is_output and fixed)
        return got == want or (is_output and got == -1)

    return len(shape) == len(spec.shape) and all(map(same, shape, spec.shape))


def _differs(what: str, wanted: str) -> ConversionError:
    return ConversionError(f"the engine {what}, the model has {wanted}", "report it, with the model")


def _check_precision(rows: Sequence[Any], precision: str) -> None:
    """Raise ConversionError where a precision was asked for, and no layer computes in it."""
    if precision in _ASKED and not any(row.precision == precision for row in rows):
        raise ConversionError(
            f"no layer of the engine computes in {precision}, though the ONNX model has it",
            f"what it computes in: {listing.precisions(rows)}",
        )
