"""The target `captured`: a torch.export program on disk, which core itself makes and every torch target consumes.

Capturing is core's (`capture.py`); this plugin only writes the program and runs it again. It is found
through an entry point like any other, and shows how small a target can be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import known
from .errors import RuntimeFailure
from .hookspecs import hookimpl
from .options import option
from .plan import CAPTURED, MODULE
from .target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from .options import NoOptions
    from .types import Artifact, Build, Captured, Session

FILE = "program.pt2"

_INSTALL = known.MODULES["torch"]


@dataclass(frozen=True)
class RunOptions:
    """Options of running a captured program."""

    threads: int = option(0, "threads of PyTorch; 0 leaves them as they are")


@hookimpl
def mx_target() -> Target:
    return Target(
        name=CAPTURED,
        summary="torch.export program, run by PyTorch",
        consumes=(MODULE,),
        options={"run": RunOptions},
        needs={"export": ("torch",), "run": ("torch",)},
        install={"export": _INSTALL, "run": _INSTALL},
    )


@hookimpl
def mx_export(source: Captured, out: Path, options: NoOptions) -> Build:
    import torch

    from .types import Build

    torch.export.save(source.program, out / FILE)
    return Build(FILE, tools=("torch",))


@hookimpl
def mx_run(artifact: Artifact, options: RunOptions) -> Session:
    import torch

    from . import pickles, torchref
    from .plugins import first_line
    from .types import Session

    if options.threads:
        torch.set_num_threads(options.threads)
    pickles.check_program(artifact.entry_path)
    try:
        program = torch.export.load(artifact.entry_path)
    except Exception as error:
        raise RuntimeFailure(
            f"PyTorch can't load {artifact.entry_path}: {first_line(error)}",
            "capture the model again with this torch",
        ) from error
    call = torchref.reference(program.module(), artifact.inputs, [spec.name for spec in artifact.outputs], program)
    return Session(lambda inputs: call(dict(inputs)), artifact.inputs, artifact.outputs)
