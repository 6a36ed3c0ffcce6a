"""The TFLite target: export through litert-torch or from Keras, run on LiteRT.

export.py       captured program → model.tflite
lowering.py     the converter, and which operators it takes
sizes.py        dynamic dims: a batch that is resized, or one signature for each size
batch.py        makes a file that was converted at one batch size take any
naming.py       layers named as the model's modules
flatbuffer.py   the file itself: reading, writing, what is in it
delegation.py   which operators XNNPACK computes
session.py      model.tflite → Session
quantize.py     smaller and faster copies, by ai-edge-quantizer
source.py       .tflite files, .keras files and SavedModel folders as sources
keras.py        Keras and SavedModel → model.tflite, through TensorFlow
metadata.py     labels and processing inside the file
terminal.py     keeping libraries off the terminal
snippets.py     programs that run the file, in C++, Kotlin, Java and Swift
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modelexport.contract import Target, Verb, hookimpl, option

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


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of `mx quantize` for TFLite artifacts."""

    mode: Literal["auto", "dynamic", "static", "weight-only", "float16"] = option(
        "auto",
        "auto: static for convolutions where there is calibration data, else dynamic; dynamic: int8 weights, "
        "activations as it runs; static: int8 throughout, with calibrated ranges; weight-only: computed in "
        "float32; float16: stored in half precision",
    )
    bits: Literal[8, 4] = option(8, "bits of a weight, for dynamic and weight-only")
    io: Literal["float", "integer"] = option(
        "float",
        "static: inputs and outputs of the file, float32 or its integers; a session takes floats either way",
    )
    exclude: tuple[str, ...] = option((), "layers to leave in float32, by name of what they write; * and ? match")


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
    )


@hookimpl
def mx_export(source: Captured | Source, out: Path, options: ExportOptions) -> Build:
    from modelexport.contract import Source

    if isinstance(source, Source):
        from . import source as files

        return files.export(source, out)
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
