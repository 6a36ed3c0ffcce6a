"""The TensorRT target: engines for NVIDIA GPUs, built from ONNX with or without one at hand.

export.py      verified ONNX → model.engine
session.py     model.engine → Session, on a GPU
quantize.py    another engine from the ONNX model that an artifact keeps
files.py       the engine's file
operators.py   what TensorRT can't take, and how it is said
backend.py     its logger, and libraries of kernels
flavours.py    TensorRT and TensorRT-RTX: which is here, and for which GPUs it builds
choices.py     which options go together
build.py       the one builder call, for both flavours
profiles.py    dynamic dims → optimization profiles
listing.py     the builder's log → layers and tensors
device.py      memory, streams, events and graphs of CUDA
details.py     what the manifest says beyond that, by which a stranger's is checked

A network computes in the types that the ONNX model has: other precisions than float32 are made in ONNX, by its
plugin's `mx quantize`, and compiled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from modelexport.contract import Target, Verb, check_file, check_least, check_writable, hookimpl, option

from . import flavours
from .details import Details

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from modelexport.contract import Arrays, Artifact, Build, Calibration, Goal, Session, Source

__version__ = "0.1.0"

__all__ = ["ExportOptions", "QuantizeOptions", "RunOptions"]


@dataclass(frozen=True)
class ExportOptions:
    """Options of `mx export -t tensorrt`."""

    flavour: Literal["auto", "tensorrt", "tensorrt-rtx"] = option(
        "auto", "auto: TensorRT where it is installed and sees a GPU, else TensorRT-RTX, ahead of time"
    )
    sm: tuple[str, ...] = option(
        ("auto",),
        "GPUs to build for: sm75, sm80, sm86, sm89, sm120, sm121, or current, the one here; auto: all that "
        "TensorRT-RTX builds for and the model's types run on",
    )
    profile: tuple[str, ...] = option(
        (),
        "sizes to build for, MIN:OPT:MAX of an input (ids=1x1:8x128:32x512) or a dim (batch=1:8:32), separated by "
        "semicolons; several profiles by commas. None: what the dims are declared for",
    )
    bound: int | None = option(
        None, "largest size of dims declared without one; 32 for a batch, 256 for others where it is left out"
    )
    precision: Literal["auto", "fp32", "fp16", "bf16", "int8", "fp8", "int4"] = option(
        "auto", "what the ONNX model must compute in; `--precision` makes it so, and sets this"
    )
    optimization_level: int | None = option(None, "how long the builder looks for faster kernels, 0 to 5")
    weight_streaming: bool = option(
        False, "weights may stay in the host's memory, for models larger than the GPU's"
    )
    timing_cache: str | None = option(None, "file that keeps measured kernels between builds; TensorRT only")
    dla: int | None = option(None, "core of a Jetson's deep learning accelerator to build for; TensorRT only")
    refit: bool = option(False, "weights can be replaced in the finished engine; takes a GPU")
    strip: bool = option(False, "leave the weights out, to be refitted where it runs; takes a GPU")
    version_compatible: bool = option(False, "an engine for later versions too; TensorRT only, takes a GPU")
    plugins: tuple[str, ...] = option((), "shared libraries with kernels for operators that TensorRT lacks")
    keep_onnx: bool = option(True, "keep the ONNX model under source/: `mx quantize` starts from it")

    def __post_init__(self) -> None:
        from . import choices

        choices.check(self)


@dataclass(frozen=True)
class RunOptions:
    """Options of `mx run`, `mx verify` and `mx benchmark` for TensorRT artifacts."""

    device: int = option(0, "the GPU to run on, by its number")
    cuda_graph: bool = option(False, "record the kernels' launches once for each set of sizes, and replay them")
    runtime_cache: str | None = option(
        None, "file that keeps kernels compiled on this GPU between runs; TensorRT-RTX only"
    )
    plugins: tuple[str, ...] = option((), "shared libraries with the kernels that the engine was built with")

    def __post_init__(self) -> None:
        check_least("device", self.device, 0)
        check_writable("runtime-cache", self.runtime_cache)
        for path in self.plugins:
            check_file("plugins", path)


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of `mx quantize` for TensorRT artifacts: another engine, from the ONNX model that is kept."""

    mode: Literal["int8", "fp8", "int4"] = option(
        "int8",
        "int8 and fp8: weights and activations, by calibrated scales, fp8 from sm89 on; int4: weights of matrix "
        "products, in blocks",
    )
    calibrator: Literal["minmax", "entropy", "percentile"] = option("minmax", "how ranges come from calibration")
    percentile: float = option(99.99, "share of the values, in %, that a range of calibrator=percentile holds")
    block_size: Literal[64, 128] = option(128, "weights that share a scale, for int4")
    activations: Literal["fp16", "fp32"] = option("fp16", "what everything computes in that isn't quantized")
    plugins: tuple[str, ...] = option(
        (), "shared libraries with kernels that the artifact was exported with; its manifest isn't asked"
    )
    exclude: tuple[str, ...] = option((), "nodes of the ONNX model not to quantize, by name; * and ? match")
    explain: bool = option(True, "measure each layer's error for the report")

    def __post_init__(self) -> None:
        from . import quantize

        quantize.for_onnx(self)  # which finds what is wrong with them


#: precision → how `mx quantize` makes it of an ONNX model for TensorRT
_COMPILED: Mapping[str, Mapping[str, str]] = {
    "fp16": {"mode": "float16"},
    "bf16": {"mode": "bfloat16"},
    "int8": {"mode": "static", "activations": "fp16"},
    "fp8": {"mode": "fp8", "activations": "fp16"},
    "int4": {"mode": "weight-only", "bits": "4", "activations": "fp16"},
}


@hookimpl
def mx_target() -> Target:
    library = flavours.installed()[0].module
    return Target(
        name="tensorrt",
        summary="TensorRT engines for NVIDIA GPUs",
        consumes=("onnx",),
        verbs={
            "export": Verb(
                ExportOptions,
                needs=(library, "onnx"),
                install="pip install 'modelexport-tensorrt[export]'",
                precisions={name: {"precision": name} for name in _COMPILED},
            ),
            "quantize": Verb(
                QuantizeOptions,
                needs=(library, "onnx"),
                install="pip install 'modelexport-tensorrt[quantize]'",
            ),
            "run": Verb(RunOptions, needs=(library,), install="pip install 'modelexport-tensorrt[run]'"),
        },
        compiles={name: {"quantize": {"preset": "tensorrt", **options}} for name, options in _COMPILED.items()},
        details=Details,
    )


@hookimpl
def mx_machine() -> Mapping[str, str]:
    lacks = flavours.lacking() or flavours.without_bindings()
    return {"run": lacks} if lacks else {}


@hookimpl
def mx_check(options: Mapping[str, Any], source: Source | None, precision: str | None, calibrated: bool) -> None:
    from . import choices, quantize

    if "quantize" in options:
        quantize.check_calibrated(options["quantize"], calibrated)
    if "export" in options:
        choices.check_machine(options["export"], flavours.choose(options["export"].flavour))
        if source is not None:
            choices.check_source(options["export"], source, precision)


@hookimpl
def mx_export(source: Artifact | Source, out: Path, options: ExportOptions) -> Build:
    from . import export

    return export.export(source, out, options)


@hookimpl
def mx_quantize(
    artifact: Artifact, out: Path, options: QuantizeOptions, calibration: Calibration | None, goal: Goal | None
) -> Build:
    from . import quantize

    return quantize.quantize(artifact, out, options, calibration, goal)


@hookimpl
def mx_run(artifact: Artifact, options: RunOptions) -> Session:
    from . import session

    return session.open_artifact(artifact, options)


@hookimpl
def mx_benchmark(artifact: Artifact, inputs: Arrays, options: RunOptions) -> Mapping[str, Any]:
    from . import session

    return session.benchmark(artifact, inputs, options)
