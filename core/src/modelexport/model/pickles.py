"""Refuse a torch.export program that would be unpickled: `torch.export.load` does so without asking.

A `.pt2` is a zip archive. Its weights are raw bytes, but tensor subclasses, opaque objects and sample inputs
are pickles, which torch loads with `weights_only=False` where the safe way fails (torch 2.13,
`torch/export/pt2_archive/_package.py` and `_export/serde/serialize.py`). Here the safe way must do.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..errors import SourceError, UnsafeFileError


def check_program(path: Path) -> None:
    """Raise UnsafeFileError if loading the program at `path` would run code that the file holds.

    Raises SourceError when it is no archive at all.
    """
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            for name in _pickled(archive):
                try:
                    torch.load(io.BytesIO(archive.read(name)), weights_only=True)
                except Exception as error:
                    raise _unsafe(path, name) from error
    except (zipfile.BadZipFile, OSError, ValueError, KeyError) as error:
        raise SourceError(
            f"{path} is no torch.export program, or a damaged one: {error}",
            "save it with torch.export.save, or give the model's code",
        ) from error


def _pickled(archive: zipfile.ZipFile) -> Iterator[str]:
    """Members that torch reads with an unpickler. Compiled code, which it loads as a library, is refused."""
    for name in archive.namelist():
        pure = PurePosixPath(name)
        if "aotinductor" in pure.parts or pure.name.startswith("opaque_obj_"):
            raise _unsafe(Path(archive.filename or ""), name)
        if pure.suffix == ".pt":
            yield name
        elif pure.name.endswith("_config.json"):
            for entry in json.loads(archive.read(name)).get("config", {}).values():
                if entry.get("use_pickle") and not entry.get("path_name", "").startswith("custom_obj_"):
                    yield str(pure.with_name(entry["path_name"]))


def _unsafe(path: Path, member: str) -> UnsafeFileError:
    return UnsafeFileError(
        f"{path} can only be read by running code that it holds ({member})",
        "export the program again without opaque objects; if you trust its author, add --allow-pickle",
    )
