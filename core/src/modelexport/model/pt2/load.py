"""Load a torch.export program: the one place in which files of others are opened with `torch.export.load`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import MxError, SourceError, first_line
from ...quiet import quiet
from .check import check_program

_HINT = "save it with torch.export.save, or give the model's code"


def load_program(
    path: Path,
    trusted: bool = False,
    kind: type[MxError] = SourceError,
    hint: str = _HINT,
    flag: str = "--allow-pickle",
) -> Any:
    """The `ExportedProgram` at `path`, checked before torch sees it unless it is `trusted`.

    Raises UnsafeFileError, naming `flag`, for a file that might run code; SourceError for one that is no program;
    `kind` with `hint` where this PyTorch can't load it.
    """
    import torch

    if not trusted:
        check_program(path, flag)
    try:
        with quiet("torch.export"):  # it logs the whole trace of what is raised here
            return torch.export.load(path)
    except Exception as error:
        raise kind(f"{path} is no torch.export program, or a damaged one: {first_line(error)}", hint) from error
