"""The TFLite target: export through litert-torch or from Keras, run on LiteRT.

export.py       captured program → model.tflite, with a batch that is proved to resize
conversion.py   the same as litert-torch does it, for given sizes
operators.py    what LiteRT and its converter can't take
sizes.py        dynamic dims: a batch that is resized, or one signature for each size
batch.py        makes a file that was converted at one batch size take any
naming.py       layers named as the model's modules
source.py       .tflite files, .keras files and SavedModel folders as sources
keras.py        Keras and SavedModel → model.tflite, through TensorFlow
kerasfile.py    .keras files that may run code, which are refused
savedmodel.py   SavedModels that do more than compute, which are refused
session.py      model.tflite → Session, in the model's own dtypes and layout
interpreter.py  LiteRT's interpreter on a file
quantize/       smaller and faster copies, by ai-edge-quantizer
snippets/       programs that run the file, in C++, Kotlin, Java and Swift
files.py        the file itself: its name, reading, writing, what is in it
inspection.py   what `mx inspect` shows of it
metadata.py     labels and processing inside the file
backend.py      the toolchain's noise, kept off the terminal
details.py      what the manifest says beyond that, by which a stranger's is checked
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modelexport.contract import Target, Verb, check_least, hookimpl, option
from modelexport.errors import OptionError

from .details import Details

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from modelexport.contract import Artifact, Build, Calibration, Captured, Goal, LoadOptions, Session, Source

__version__ = "0.1.0"

__all__ = ["ExportOptions", "QuantizeOptions", "RunOptions"]


@dataclass(frozen=True)
class ExportOptions:
    """Options of `mx export -t tflite`."""

    layout: Literal["nchw", "nhwc"] = option(
        "nchw",
        "nhwc: inputs of rank 4 are images, and the file takes them channels last",
    )


@dataclass(frozen=True)
class RunOptions:
    """Options of `mx run`, `mx verify` and `mx benchmark` for TFLite artifacts."""

    threads: int = option(0, "threads; 0 lets LiteRT choose")
    delegate: Literal["xnnpack", "none", "reference"] = option(
        "xnnpack", "what computes: XNNPACK where it can; LiteRT's own kernels; its plain reference kernels"
    )

    def __post_init__(self) -> None:
        check_least("threads", self.threads, 0)


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of `mx quantize` for TFLite artifacts."""

    mode: Literal["auto", "dynamic", "static", "weight-only", "float16"] = option(
        "auto",
        "auto: static for convolutions where there is calibration data, else dynamic; dynamic: int8 weights, "
        "activations quantized as the model runs; static: int8 throughout, by calibrated ranges; weight-only: "
        "int8 weights, computed in float32; float16: weights in half precision",
    )
    bits: Literal[8, 4] = option(8, "bits of a weight; 4 goes with dynamic and weight-only, auto is dynamic then")
    io: Literal["float", "integer"] = option(
        "float",
        "integer: the file itself takes and gives integers, with mode=static; a session takes floats either way",
    )
    exclude: tuple[str, ...] = option((), "layers to leave in float32, by name of what they write; * and ? match")

    def __post_init__(self) -> None:
        if self.bits == 4 and self.mode in ("static", "float16"):
            raise OptionError(f"bits=4 does not go with mode={self.mode}", "give mode=dynamic or mode=weight-only")
        if self.io == "integer" and self.mode not in ("auto", "static"):
            raise OptionError(f"io=integer goes with mode=static, not mode={self.mode}", "give mode=static")
        if self.io == "integer" and self.bits == 4:
            raise OptionError("io=integer goes with mode=static, which has no bits=4", "leave bits=4 out")


@hookimpl
def mx_target() -> Target:
    return Target(
        name="tflite",
        summary="TFLite for Android, iOS and embedded Linux, run by LiteRT with XNNPACK",
        consumes=("captured", "tflite", "keras", "saved_model"),
        verbs={
            "export": Verb(
                ExportOptions, needs=("torch", "litert_torch"), install="pip install 'modelexport-tflite[export]'"
            ),
            "quantize": Verb(
                QuantizeOptions,
                needs=("ai_edge_quantizer", "ai_edge_litert"),
                install="pip install 'modelexport-tflite[quantize]'",
                precisions={
                    "fp16": {"mode": "float16"},
                    "int8": {"mode": "auto"},
                    "int4": {"mode": "weight-only", "bits": "4"},
                },
            ),
            "run": Verb(RunOptions, needs=("ai_edge_litert",), install="pip install ai-edge-litert"),
        },
        snippets=("cpp", "kotlin", "java", "swift"),
        details=Details,
    )


@hookimpl
def mx_export(source: Captured | Source, out: Path, options: ExportOptions) -> Build:
    from modelexport.contract import Source

    if isinstance(source, Source):
        from .source import adopt

        return adopt(source, out, options)
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
def mx_snippet(artifact: Artifact, language: str) -> Mapping[str, str]:
    from . import snippets

    return snippets.write(artifact, language)


@hookimpl
def mx_load(ref: str, options: LoadOptions) -> Source | None:
    from . import source

    return source.load(ref, options)
