"""The TorchScript archive: its name in an artifact, and how one is recognized, written and loaded.

An archive is a zip of code and tensors. None of it goes through Python's pickle, but its code has operators that
read and write files: `trust.py` looks for them before PyTorch loads anything.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from modelexport.errors import ConversionError, RuntimeFailure, SourceError, first_line, is_disk_error

from . import trust
from .backend import silenced

FILE = "model.pt"

#: suffixes that only TorchScript uses; .pt holds weights as often
OWN = (".ts", ".jit", ".torchscript")


def is_archive(path: Path) -> bool:
    """Whether the file `path` is a zip with `code/` and `constants.pkl`, which weights lack.

    Raises SourceError where it is none although its name or its first bytes say so: it is damaged.
    """
    with path.open("rb") as stream:
        begins_as_zip = stream.read(2) == b"PK"
    whole = zipfile.is_zipfile(path)
    if whole and _holds_code(path):
        return True
    if path.suffix in OWN or (path.suffix == ".pt" and begins_as_zip and not whole):
        raise SourceError(
            f"{path} is no TorchScript archive, or a damaged one", "write it with torch.jit.save, or copy it again"
        )
    return False


def _holds_code(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        inner = {name.partition("/")[2] for name in archive.namelist()}
    return "constants.pkl" in inner and any(name.startswith("code/") for name in inner)


def save(module: Any, path: Path) -> None:
    """Write a compiled module. Raises ConversionError where PyTorch compiled it and can't save it.

    PyTorch's own writer of files takes the process down where the disk is full, so it writes into memory.
    """
    with silenced():
        try:
            archive = module.save_to_buffer()
        except RuntimeError as error:
            raise ConversionError(
                f"PyTorch compiled the model and can't save it: {first_line(error)}",
                "does a parameter of type Tensor have the default None? Annotate it as Optional[Tensor]",
            ) from error
    path.write_bytes(archive)


def load(path: Path, device: str = "cpu", trusted: bool = False) -> Any:
    """The script module in a file, on `device`.

    Raises UnsafeFileError where it could touch files or processes and is not `trusted`, RuntimeFailure where
    PyTorch refuses it.
    """
    import torch

    if not trusted:
        trust.check(path)
    try:
        with silenced():
            return torch.jit.load(str(path), map_location=device)
    except Exception as error:
        if is_disk_error(error):
            raise
        raise RuntimeFailure(
            f"PyTorch can't load {path.name}: {first_line(error)}", "a newer torch may: pip install -U torch"
        ) from error
