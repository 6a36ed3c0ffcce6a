"""The ExecuTorch target: .pte programs for phones and embedded devices.

export.py     captured program → model.pte, and what the options ask for beside it
lowering.py   captured program → finished ExecuTorch program, for export and quantization alike
rewrites.py   operators that others can stand for, rewritten before lowering
delegates.py  the delegates that a program can be lowered to, and what each takes
xnnpack.py    XNNPACK's partitioner, kept from what it would fail at
operators.py  operators without a kernel, and how that is said
graph.py      walking the graphs of a program
account.py    what was written: delegated share, operators left behind, memory plan, kernels
bundle.py     model.bpte, a program with its own test cases
program.py    what a .pte must be before the runtime reads it
files.py      the files of an artifact: their names, how they are read and kept
backend.py    ExecuTorch's runtime and its kernels, what both print kept off the terminal
session.py    model.pte → Session
source.py     an existing .pte as a source
quantize/     8-bit and 4-bit copies, from the captured program
snippets/     programs in C++, Java, Kotlin and Swift that run a .pte
details.py    what the manifest says beyond that, by which a stranger's is checked
"""

from __future__ import annotations

import re
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
    """Options of `mx export -t executorch`."""

    backend: tuple[str, ...] = option(
        ("xnnpack",), "who computes, in order of preference: xnnpack, coreml, vulkan, webgpu, native, portable"
    )
    bound: int | None = option(
        None,
        "largest size of dims declared without one: memory is planned for it; 32 for a batch, 256 for others",
    )
    keep_program: bool = option(
        True, "keep the captured program, weights included, under source/: `mx quantize` starts from it"
    )
    bundle: bool = option(False, "write model.bpte as well: the program with its golden inputs and outputs inside")
    etrecord: bool = option(False, "write source/etrecord.bin as well, for ExecuTorch's Inspector")
    custom_kernels: tuple[str, ...] = option(
        (), "operators that your own runtime brings kernels for, such as my::op.out"
    )

    def __post_init__(self) -> None:
        from . import delegates

        delegates.check(self.backend)
        check_least("bound", self.bound, 1)
        for name in self.custom_kernels:
            if not re.fullmatch(r"\w+::\w+(\.\w+)?", name):
                raise OptionError(f"custom-kernels={name} names no operator", "write it as my::op or my::op.out")


@dataclass(frozen=True)
class RunOptions:
    """Options of `mx run`, `mx verify` and `mx benchmark` for ExecuTorch artifacts."""

    threads: int = option(0, "threads of the runtime's pool, which a process has one of; 0 leaves it as it is")

    def __post_init__(self) -> None:
        check_least("threads", self.threads, 0)


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of `mx quantize` for ExecuTorch artifacts that were exported for XNNPACK."""

    mode: Literal["auto", "static", "dynamic"] = option(
        "auto",
        "static: activations on calibrated scales, for convolutions; dynamic: as they come, for transformers",
    )
    bits: Literal[8, 4] = option(
        8, "bits of a weight; 4 is for linear layers, dynamic, with a scale for each group"
    )
    group_size: int = option(32, "weights that share a scale in 4 bits; a multiple of 32")
    exclude: tuple[str, ...] = option((), "layers to leave in float32, by the name of their weight; * and ? match")
    allow_pickle: bool = option(False, "load the kept program even where that may run code that it holds")

    def __post_init__(self) -> None:
        if self.bits == 4 and self.mode == "static":
            raise OptionError("XNNPACK has no static 4-bit operators", "-k mode=dynamic -k bits=4")
        if self.group_size < 32 or self.group_size % 32:
            raise OptionError(
                f"groups of {self.group_size} are none of XNNPACK's", "-k group-size= takes 32, 64, …"
            )


_EXPORT = "pip install 'modelexport-executorch[export]'"


@hookimpl
def mx_target() -> Target:
    return Target(
        name="executorch",
        summary="ExecuTorch programs (.pte) for phones and embedded devices",
        consumes=("captured", "executorch"),
        verbs={
            "export": Verb(ExportOptions, needs=("torch", "executorch"), install=_EXPORT),
            "quantize": Verb(
                QuantizeOptions,
                needs=("torch", "executorch", "torchao"),
                install="pip install 'modelexport-executorch[quantize]'",
                precisions={"int8": {"bits": "8"}, "int4": {"mode": "dynamic", "bits": "4"}},
            ),
            "run": Verb(
                RunOptions, needs=("torch", "executorch"), install="pip install 'modelexport-executorch[run]'"
            ),
        },
        snippets=("cpp", "java", "kotlin", "swift"),
        details=Details,
    )


@hookimpl
def mx_export(source: Captured | Source, out: Path, options: ExportOptions) -> Build:
    from modelexport.contract import Source

    from . import export
    from .source import copy_file

    return copy_file(source, out) if isinstance(source, Source) else export.export(source, out, options)


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
def mx_load(ref: str, options: LoadOptions) -> Source | None:
    from . import source

    return source.load(ref, options)


@hookimpl
def mx_snippet(artifact: Artifact, language: str) -> Mapping[str, str]:
    from . import snippets

    return snippets.write(artifact, language)
