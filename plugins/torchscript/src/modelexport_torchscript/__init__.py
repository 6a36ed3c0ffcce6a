"""The TorchScript target: trace or script a live module, freeze it, run it in PyTorch.

export.py     live module → model.pt: which of the two ways, and why
compiling.py  the two ways: torch.jit.trace and torch.jit.script
probe.py      whether what was compiled computes what the module computes, on other inputs
optimize.py   freeze and optimize_for_inference, kept where they are measured to be no slower
session.py    model.pt → Session
source.py     an existing TorchScript archive as a source
trust.py      what an archive could do to this machine, found before it is loaded
files.py      the archive: its name, and how one is recognized, written and loaded
schema.py     what a loaded module says of itself: its forward, its methods, its mode
operators.py  what TorchScript can't take, said with the user's line
backend.py    PyTorch's warnings about TorchScript, and what it recommends instead
details.py    what the manifest says beyond that, by which a stranger's is checked
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modelexport.contract import Target, Verb, check_least, hookimpl, option

from .details import Details

if TYPE_CHECKING:
    from pathlib import Path

    from modelexport.contract import Artifact, Build, LoadOptions, Session, Source

__version__ = "0.1.0"

__all__ = ["ExportOptions", "OptimizeOptions", "RunOptions"]

INSTALL = "pip install 'modelexport-torchscript[export]'"

_ALLOW = "load an archive whose code may touch files or processes: only if you trust who made it"


@dataclass(frozen=True)
class ExportOptions:
    """Options of `mx export -t torchscript`."""

    mode: Literal["auto", "trace", "script"] = option(
        "auto",
        "trace records one run, script compiles the source; auto traces, and scripts where other inputs, or "
        "decisions on data in the model's code, show that a trace is not enough",
    )
    allow_file_access: bool = option(False, _ALLOW)


@dataclass(frozen=True)
class OptimizeOptions:
    """Options of `mx optimize` for TorchScript artifacts."""

    method: Literal["auto", "freeze", "optimize_for_inference", "none"] = option(
        "auto", "what to try; kept only where it is measured to be no slower, auto keeps the fastest"
    )
    allow_file_access: bool = option(False, _ALLOW)


@dataclass(frozen=True)
class RunOptions:
    """Options of `mx run`, `mx verify` and `mx benchmark` for TorchScript artifacts."""

    device: Literal["cpu", "cuda"] = option("cpu", "where the model runs")
    threads: int = option(0, "threads within an operator; 0 leaves PyTorch's setting as it is")
    allow_file_access: bool = option(False, _ALLOW)

    def __post_init__(self) -> None:
        check_least("threads", self.threads, 0)


@hookimpl
def mx_target() -> Target:
    return Target(
        name="torchscript",
        summary="TorchScript, run by PyTorch or from C++ (deprecated there: torch.export replaces it)",
        consumes=("module",),
        verbs={
            "export": Verb(ExportOptions, needs=("torch",), install=INSTALL),
            "optimize": Verb(OptimizeOptions, needs=("torch",), install=INSTALL),
            "run": Verb(RunOptions, needs=("torch",), install=INSTALL),
        },
        details=Details,
    )


@hookimpl
def mx_export(source: Source, out: Path, options: ExportOptions) -> Build:
    from . import export

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
    from . import source

    return source.load(ref, options)
