"""The ONNX target: export through torch.onnx, run on ONNX Runtime.

export.py      captured program → model.onnx
operators.py   which operators have no ONNX translation, and the user's own translations
session.py     model.onnx → Session
source.py      an existing .onnx file as a source
optimize.py    candidates, measured: the fastest equivalent is kept
fusions.py     simplification, and the fusions that make the candidates
halves.py      float32 → float16 or bfloat16
modelfile.py   files: weights inside or beside, above what one protobuf holds
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from modelexport import hookimpl
from modelexport.options import option
from modelexport.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from modelexport.types import Artifact, Build, Captured, LoadOptions, Session, Source

__version__ = "0.1.0"

#: a `register` a user's module calls to teach the exporter an operator; see docs/how-to/custom-operators.md
__all__ = ["ExportOptions", "OptimizeOptions", "RunOptions", "register"]


@dataclass(frozen=True)
class ExportOptions:
    """Options of `mx export -t onnx`."""

    opset: int = option(20, "ONNX opset to write; written exactly, or refused")
    optimize: bool = option(True, "fold constants and remove redundant operators while converting")
    external_data: Literal["auto", "always"] = option(
        "auto", "weights in a file of their own: auto does it above 1.8 GB, since one protobuf holds 2 GB"
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


@hookimpl
def mx_target() -> Target:
    return Target(
        name="onnx",
        summary="ONNX, run by ONNX Runtime (CPU, CUDA and other providers)",
        consumes=("captured",),
        options={"export": ExportOptions, "optimize": OptimizeOptions, "run": RunOptions},
        needs={
            "export": ("torch", "onnx", "onnxscript"),
            "optimize": ("onnx", "onnxscript", "onnxslim", "onnxruntime"),
            "run": ("onnxruntime",),
        },
        install={
            "export": "pip install 'modelexport-onnx[export]'",
            "optimize": "pip install 'modelexport-onnx[optimize]'",
            "run": "pip install onnxruntime",
        },
    )


@hookimpl
def mx_export(source: Captured | Source, out: Path, options: ExportOptions) -> Build:
    from modelexport.types import Source

    from . import export

    if isinstance(source, Source):
        return export.copy_file(source, out)
    return export.export(source, out, options)


@hookimpl
def mx_optimize(artifact: Artifact, out: Path, options: OptimizeOptions) -> Build:
    from . import optimize

    return optimize.optimize(artifact, out, options)


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

    return source.load(Path(ref))


def register(operator: Any, translation: Any) -> None:
    """Teach the exporter `operator` (a `torch.ops.…` overload): `translation` is an onnxscript function.

    Call it from a module named with `--register`, or from one listed in the entry-point group
    `mx.onnx_operators`. The translation reaches torch.onnx.export as its `custom_translation_table`.
    """
    from . import operators

    operators.TRANSLATIONS[operator] = translation
