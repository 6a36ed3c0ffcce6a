"""The Core ML target: ML Programs for Apple devices, made and verified on any machine.

export.py     captured program → model.mlpackage
rewrites.py   a program brought into operators that the converter translates
operators.py  what Core ML and its converter can't take, and how it is said
features.py   the model's interface: names, flexible shapes, images, class labels, metadata
systems.py    the oldest systems to run on, and what they know of quantization
files.py      the .mlpackage: reading it, and comparing what was written with what was asked
source.py     an existing .mlpackage as a source
session.py    model.mlpackage → Session: Core ML's own predictor on macOS, the interpreter elsewhere
interpreter/  evaluates a saved ML Program operator by operator
quantize/     8-bit and 4-bit weights, palettes, pruning; 8-bit activations
snippets.py   Swift that runs a package
backend.py    coremltools, imported without what it merely supports, and its noise kept off the terminal
details.py    what the manifest says beyond that, by which a stranger's is checked
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from modelexport.contract import Target, Verb, check_least, hookimpl, option
from modelexport.errors import OptionError
from modelexport.toolkit import importable

from .details import Details

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from modelexport.contract import Artifact, Build, Calibration, Captured, Goal, LoadOptions, Session, Source

__version__ = "0.1.0"

__all__ = ["ExportOptions", "QuantizeOptions", "RunOptions"]

#: Core ML itself predicts on macOS only; the interpreter computes with PyTorch
_RUN = ("coremltools",) if sys.platform == "darwin" else ("coremltools", "torch")


#: mode of quantization → the integers that it has, and how its lack of others is said
_WIDTHS = {"linear": ((8, 4), "linear quantization has"), "activations": ((8,), "activations have")}


@dataclass(frozen=True)
class ExportOptions:
    """Options of `mx export -t coreml`."""

    deployment_target: Literal["iOS15", "iOS16", "iOS17", "iOS18"] = option(
        "iOS18", "the oldest system to run on; macOS 12 to 15 and their siblings go with it"
    )
    compute_precision: Literal["float32", "float16"] = option(
        "float32", "what the device computes in; the Neural Engine takes float16 only"
    )
    compute_units: Literal["all", "cpu-only", "cpu-and-gpu", "cpu-and-ne"] = option(
        "all", "the processors Core ML may use; kept in the manifest for `mx run`"
    )
    shapes: Literal["range", "enumerated"] = option(
        "range", "dynamic dims as ranges, or every allowed shape in a list, 128 at most; dims in steps always so"
    )
    bound: int = option(512, "largest size of dims declared without one: Core ML takes no open ranges")
    image_input: str | None = option(
        None, "an input that takes an image: name,scale,bias,color; bias is one number or three, as 1/2/3"
    )
    labels: str | None = option(
        None, "class labels of a classifier: a text file, one a line, or `processing` for the source's own"
    )
    author: str | None = option(None, "author, as Xcode shows it")
    license: str | None = option(None, "licence, as Xcode shows it")
    version: str | None = option(None, "version, as Xcode shows it")
    description: str | None = option(None, "what the model does, as Xcode shows it")

    def __post_init__(self) -> None:
        check_least("bound", self.bound, 1)
        if self.labels is not None or self.image_input is not None:
            from . import features

            features.check_alone(self)


@dataclass(frozen=True)
class RunOptions:
    """Options of `mx run`, `mx verify` and `mx benchmark` for Core ML artifacts."""

    compute_units: Literal["artifact", "all", "cpu-only", "cpu-and-gpu", "cpu-and-ne"] = option(
        "artifact", "the processors Core ML may use, on macOS; artifact: those it was exported for"
    )
    threads: int = option(0, "threads of the interpreter; 0 leaves PyTorch's")

    def __post_init__(self) -> None:
        check_least("threads", self.threads, 0)


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of `mx quantize` for Core ML artifacts."""

    mode: Literal["linear", "activations", "palettize", "prune"] = option(
        "linear",
        "linear: integers and scales; activations: these in 8 bits too; palettize: indices into a table; "
        "prune: the smallest become zero",
    )
    bits: Literal[8, 6, 4, 3, 2, 1] = option(8, "bits of a weight; linear takes 8 and 4, palettize all")
    algorithm: Literal["kmeans", "uniform"] = option("kmeans", "how a palette is chosen")
    block_size: int = option(32, "weights that share a scale, for 4-bit linear")
    group_size: int = option(
        16, "channels that share a palette, for targets since iOS 18; 0: one for each constant"
    )
    sparsity: float = option(0.5, "share of each weight that pruning sets to zero")
    min_size: int | None = option(
        None, "leave constants with fewer values as they are; 2048, or 1 where no constant is that large"
    )
    exclude: tuple[str, ...] = option(
        (),
        "constants to leave as they are, and operators whose activations are to be left, by name; * and ? match",
    )

    def __post_init__(self) -> None:
        widths, of_what = _WIDTHS.get(self.mode, ((self.bits,), ""))
        if self.bits not in widths:
            raise OptionError(
                f"{of_what} no {self.bits}-bit integers", f"give -k bits={' or '.join(map(str, widths))}"
            )
        if not 0 < self.sparsity < 1:
            raise OptionError(f"a sparsity of {self.sparsity:g} is none", "give a share between 0 and 1")
        sizes = (self.min_size, self.block_size, self.group_size or 1)
        if any(size is not None and size < 1 for size in sizes):
            raise OptionError("sizes are 1 or more", "leave out -k min-size, block-size and group-size")
        if (self.mode, self.algorithm) == ("palettize", "kmeans") and not importable("sklearn"):
            raise OptionError(
                "palettes by k-means need scikit-learn",
                "pip install 'modelexport-coreml[quantize]', or -k algorithm=uniform",
            )


@hookimpl
def mx_target() -> Target:
    return Target(
        name="coreml",
        summary="Core ML for Apple devices, run by Core ML on macOS and interpreted elsewhere",
        consumes=("captured", "coreml"),
        verbs={
            "export": Verb(
                ExportOptions, needs=("torch", "coremltools"), install="pip install 'modelexport-coreml[export]'"
            ),
            "quantize": Verb(
                QuantizeOptions,
                needs=_RUN,
                install="pip install 'modelexport-coreml[quantize]'",
                precisions={"int8": {"mode": "linear", "bits": "8"}, "int4": {"mode": "linear", "bits": "4"}},
            ),
            "run": Verb(RunOptions, needs=_RUN, install="pip install 'modelexport-coreml[run]'"),
        },
        snippets=("swift",),
        details=Details,
    )


@hookimpl
def mx_check(options: Mapping[str, Any], source: Source | None) -> None:
    export: ExportOptions | None = options.get("export")
    if export is not None and "quantize" in options:
        from . import systems

        systems.check(options["quantize"], systems.VERSIONS[export.deployment_target], export.compute_precision)
    if export is not None and source is not None and source.format != "coreml":
        from . import features

        features.check(export, source)


@hookimpl
def mx_export(source: Captured | Source, out: Path, options: ExportOptions) -> Build:
    from modelexport.contract import Source

    from . import export
    from . import source as existing

    if isinstance(source, Source):
        return existing.copy_package(source, out, options)
    return export.export(source, out, options)


@hookimpl
def mx_quantize(
    artifact: Artifact, out: Path, options: QuantizeOptions, calibration: Calibration | None, goal: Goal | None
) -> Build:
    from . import quantize

    return quantize.quantize(artifact, out, options, calibration)


@hookimpl
def mx_run(artifact: Artifact, options: RunOptions) -> Session:
    from . import session

    return session.open_artifact(artifact, options)


@hookimpl
def mx_snippet(artifact: Artifact, language: str) -> Mapping[str, str]:
    from . import snippets

    return snippets.swift(artifact)


@hookimpl
def mx_load(ref: str, options: LoadOptions) -> Source | None:
    if not ref.rstrip("/").endswith((".mlpackage", ".mlmodel", ".mlmodelc")):
        return None
    from pathlib import Path

    from . import source

    return source.load(Path(ref), options)
