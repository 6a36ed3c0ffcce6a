"""The target `captured`: a torch.export program on disk, which core itself makes and every torch target consumes.

Capturing is core's (`capture.py`); this plugin only writes the program and runs it again. It is found
through an entry point like any other, and shows how small a target can be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..contract.hooks import hookimpl
from ..contract.options import option
from ..contract.target import CAPTURED, MODULE, Target, Verb
from ..errors import RuntimeFailure
from ..plugins import known

if TYPE_CHECKING:
    from pathlib import Path

    from ..contract.artifacts import Artifact, Build
    from ..contract.options import NoOptions
    from ..contract.sessions import Session
    from ..contract.sources import Captured

FILE = "program.pt2"

_INSTALL = known.MODULES["torch"]


@dataclass(frozen=True)
class RunOptions:
    """Options of running a captured program."""

    threads: int = option(0, "threads of PyTorch; 0 leaves them as they are")
    allow_pickle: bool = option(False, "load a program even where that may run code that it holds")


@hookimpl
def mx_target() -> Target:
    return Target(
        name=CAPTURED,
        summary="torch.export program, run by PyTorch",
        consumes=(MODULE,),
        verbs={
            "export": Verb(needs=("torch",), install=_INSTALL),
            "run": Verb(RunOptions, needs=("torch",), install=_INSTALL),
        },
    )


@hookimpl
def mx_export(source: Captured, out: Path, options: NoOptions) -> Build:
    import torch

    from ..contract.artifacts import Build

    torch.export.save(source.program, out / FILE)
    return Build(FILE, tools=("torch",))


@hookimpl
def mx_run(artifact: Artifact, options: RunOptions) -> Session:
    import torch

    from ..contract.sessions import Session
    from . import pt2, reference

    if options.threads:
        torch.set_num_threads(options.threads)
    program = pt2.load_program(
        artifact.entry_path,
        options.allow_pickle,
        RuntimeFailure,
        "capture the model again with this torch",
        flag="-k allow-pickle=true",
    )
    # torch guards against sizes that it did not trace, such as one step of a dim that comes in steps: a Session
    # checks that sizes are those declared, and the gate that these are computed right.
    module = program.module(check_guards=False)
    call = reference.reference(module, artifact.inputs, [spec.name for spec in artifact.outputs], program)
    return Session(lambda inputs: call(dict(inputs)), artifact.inputs, artifact.outputs)
