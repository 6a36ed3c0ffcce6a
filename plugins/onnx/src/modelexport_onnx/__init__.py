"""The ONNX target: export through torch.onnx, run on ONNX Runtime.

export.py      captured program → model.onnx
session.py     model.onnx → Session
source.py      an existing .onnx file as a source
quantize/      8 and 4 bits, and halves: for this machine or for a compiler
optimize/      candidates, measured: the fastest equivalent is kept
files.py       the model's file: weights inside or beside, above what one protobuf holds
operators.py   which operators have no ONNX translation, and the user's own translations
backend.py     the toolchains, kept quiet
contents.py    what a model says: types, precision, nodes, and where they come from
graph.py       layers with weights, edits, and the values of tensors
halves/        float32 → float16 or bfloat16
rounding.py    half precision as a device computes it, on one that does not
choices.py     which options of `mx quantize` go together
toolkit.py     what other targets may use: those that compile ONNX
details.py     what the manifest says beyond that, by which a stranger's is checked
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from modelexport.contract import Target, Verb, check_file, check_least, hookimpl, option
from modelexport.errors import OptionError

from .details import Details

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from modelexport.contract import Artifact, Build, Calibration, Captured, Goal, LoadOptions, Session, Source

__version__ = "0.1.0"

#: a `register` a user's module calls to teach the exporter an operator; see docs/how-to/custom-operators.md
__all__ = ["ExportOptions", "OptimizeOptions", "QuantizeOptions", "RunOptions", "register"]


#: the opsets torch.onnx writes as asked (2.13)
OLDEST, NEWEST = 18, 25


@dataclass(frozen=True)
class ExportOptions:
    """Options of `mx export -t onnx`."""

    opset: int = option(20, "ONNX opset to write; written exactly, or refused")
    optimize: bool = option(True, "fold constants and remove redundant operators while converting")
    external_data: Literal["auto", "always"] = option(
        "auto", "weights in a file of their own: auto does it above 1.8 GB, since one protobuf holds 2 GB"
    )

    def __post_init__(self) -> None:
        if not OLDEST <= self.opset <= NEWEST:
            nearest = min(max(self.opset, OLDEST), NEWEST)
            raise OptionError(
                f"opset {self.opset} can't be written: torch.onnx writes {OLDEST} to {NEWEST}",
                f"give -k opset={nearest}; onnx.version_converter can lower it later",
            )


@dataclass(frozen=True)
class RunOptions:
    """Options of `mx run`, `mx verify` and `mx benchmark` for ONNX artifacts."""

    providers: tuple[str, ...] = option(
        ("auto",),
        "execution providers in order: cpu, cuda, tensorrt, … or full names; auto is CUDA where present",
    )
    threads: int = option(0, "threads within an operator; 0 lets ONNX Runtime choose")
    optimization: Literal["none", "basic", "extended", "all"] = option("all", "graph optimization at load")
    custom_ops: str | None = option(None, "shared library with custom operator kernels")

    def __post_init__(self) -> None:
        check_least("threads", self.threads, 0)
        if self.custom_ops is not None and "/" in self.custom_ops:  # a bare name is looked for by the loader
            check_file("custom-ops", self.custom_ops)


@dataclass(frozen=True)
class OptimizeOptions:
    """Options of `mx optimize` for ONNX artifacts."""

    level: Literal["basic", "extended", "all"] = option(
        "all",
        "basic: simplify and fold constants; extended: also fuse attention, LayerNorm, GELU for ONNX Runtime; "
        "all: also with ONNX Runtime's own optimizer for transformers",
    )
    precision: Literal["float32", "float16", "bfloat16"] = option(
        "float32", "compute in half precision, but for nodes that can't; inputs and outputs stay as they are"
    )
    target_device: Literal["cpu", "cuda"] = option("cpu", "the device to optimize and measure for")
    keep_slower: bool = option(False, "keep what was asked even where it is measured to be slower")


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of `mx quantize` for ONNX artifacts. What is left out, the preset or `auto` decides."""

    mode: Literal["auto", "dynamic", "static", "weight-only", "float16", "bfloat16", "fp8"] = option(
        "auto",
        "auto: what this graph runs fast on this hardware; dynamic: activations as it runs; static: with "
        "calibrated ranges; weight-only: weights in blocks; float16: half precision; bfloat16, and "
        "fp8 with calibrated ranges: for TensorRT",
    )
    preset: Literal["auto", "x86-vnni", "x86", "arm64", "tensorrt"] = option(
        "auto", "the hardware to quantize for; auto is this machine"
    )
    activations: Literal["fp32", "fp16"] = option(
        "fp32", "what everything computes in that isn't quantized, for TensorRT"
    )
    activation_type: Literal["auto", "uint8", "int8", "uint16", "int16"] = option("auto", "type of activations")
    weight_type: Literal["auto", "int8", "uint8"] = option("auto", "type of weights")
    per_channel: bool | None = option(None, "a scale for each output channel of a weight; preset: true")
    symmetric: bool | None = option(None, "activations without zero points")
    reduce_range: bool | None = option(None, "weights in 7 bits, for processors whose 16-bit sums overflow")
    format: Literal["qdq", "qoperator"] = option("qdq", "how a static model says that it is quantized")
    calibrator: Literal["minmax", "entropy", "percentile"] = option("minmax", "how ranges come from calibration")
    percentile: float = option(99.99, "share of the values, in %, that a range of calibrator=percentile holds")
    bits: Literal[8, 4] = option(8, "bits of a weight, for weight-only; 4 for TensorRT")
    block_size: int | None = option(
        None,
        "weights that share a scale, for weight-only: 16, 32, 64, 128 or 256, 32 where it is left out; for "
        "TensorRT 64 or 128, 128 where it is left out",
    )
    op_types: tuple[str, ...] = option((), "operators to quantize; none: all that the mode can")
    exclude: tuple[str, ...] = option((), "nodes to leave in float32, by name; * and ? match")
    smooth: bool | None = option(None, "even out the channels of activations, computing the same (SmoothQuant)")
    embeddings: bool | None = option(None, "store embedding tables in 8 bits, a scale for each row")
    explain: bool = option(True, "measure each layer's error and time for the report")

    def __post_init__(self) -> None:
        from . import choices

        choices.check(self)


@hookimpl
def mx_target() -> Target:
    return Target(
        name="onnx",
        summary="ONNX, run by ONNX Runtime (CPU, CUDA and other providers)",
        consumes=("captured",),
        verbs={
            "export": Verb(
                ExportOptions,
                needs=("torch", "onnx", "onnxscript"),
                install="pip install 'modelexport-onnx[export]'",
            ),
            "optimize": Verb(
                OptimizeOptions,
                needs=("onnx", "onnxscript", "onnxslim", "onnxruntime"),
                install="pip install 'modelexport-onnx[optimize]'",
                precisions={
                    "fp16": {},
                    "bf16": {"precision": "bfloat16", "target-device": "cuda"},
                    "int8": {},
                    "int4": {},
                },
            ),
            "quantize": Verb(
                QuantizeOptions,
                needs=("onnx", "onnxruntime"),
                install="pip install 'modelexport-onnx[quantize]'",
                precisions={
                    "fp16": {"mode": "float16"},
                    "int8": {"mode": "auto"},
                    "int4": {"mode": "weight-only", "bits": "4"},
                    "fp8": {"mode": "fp8", "preset": "tensorrt", "activations": "fp16"},
                },
            ),
            "run": Verb(RunOptions, needs=("onnxruntime",), install="pip install onnxruntime"),
        },
        details=Details,
    )


@hookimpl
def mx_check(options: Mapping[str, Any], calibrated: bool) -> None:
    from . import choices

    if "quantize" in options:
        choices.check_calibrated(options["quantize"], calibrated)


@hookimpl
def mx_export(source: Captured | Source, out: Path, options: ExportOptions) -> Build:
    from modelexport.contract import Source

    from . import export

    if isinstance(source, Source):
        return export.copy_file(source, out)
    return export.export(source, out, options)


@hookimpl
def mx_optimize(artifact: Artifact, out: Path, options: OptimizeOptions) -> Build:
    from . import optimize

    return optimize.optimize(artifact, out, options)


@hookimpl
def mx_quantize(
    artifact: Artifact, out: Path, options: QuantizeOptions, calibration: Calibration | None, goal: Goal | None
) -> Build:
    from modelexport.errors import CannotRunHere

    from . import quantize

    if goal is None:
        raise CannotRunHere(
            f"{artifact.path} was optimized for another device: nothing can be measured here", "quantize it there"
        )
    return quantize.quantize(artifact, out, options, calibration, goal)


@hookimpl
def mx_run(artifact: Artifact, options: RunOptions) -> Session:
    from . import session

    return session.open_artifact(artifact, options)


@hookimpl
def mx_load(ref: str, options: LoadOptions) -> Source | None:
    if not ref.endswith(".onnx"):
        return None
    from pathlib import Path

    from . import source

    return source.load(Path(ref), options)


def register(operator: Any, translation: Any) -> None:
    """Teach the exporter `operator` (a `torch.ops.…` overload): `translation` is an onnxscript function.

    Call it from a module named with `--register`, or from one listed in the entry-point group
    `mx.onnx_operators`. The translation reaches torch.onnx.export as its `custom_translation_table`.
    """
    from . import operators

    operators.TRANSLATIONS[operator] = translation
