"""Whether an artifact's folder and the files that its manifest lists agree.

A manifest names files to open: they are listed, so that their sha256 are checked. Files that are opened by names
of their own (golden data, what later steps start from) must be listed too where they are there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..contract.artifacts import Artifact
from ..errors import ArtifactError
from . import schema

_HINT = "don't use this artifact if it isn't yours; else export the model again"


def check_named(artifact: Artifact) -> None:
    """Raise ArtifactError where the manifest names a file, or a folder, of which it lists nothing."""
    listed = [file.path for file in artifact.files]
    for name in schema.named_files(artifact):
        if not any(path == name or path.startswith(f"{name}/") for path in listed):
            raise ArtifactError(
                f"{artifact.path / schema.NAME} names {name!r}, which is not among its files", _HINT
            )


def check_tree(artifact: Artifact) -> None:
    """Raise ArtifactError for what was put into the artifact since it was written, and is no plain text beside it.

    That is everything but regular files, golden data, and files in folders: those beside the manifest may be
    anybody's notes. Hidden folders are left alone.
    """
    listed = {file.path for file in artifact.files}
    for path, kind in _below(artifact.path, ""):
        if path in listed:
            continue
        if not stat.S_ISREG(kind):
            raise ArtifactError(f"{artifact.path / path} is no regular file, and not the artifact's", _HINT)
        if "/" in path or path == artifact.golden.name:
            raise ArtifactError(f"{artifact.path / path} is not among the files of the manifest", _HINT)


def _below(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    """Path and kind of all that is in a folder and in those within it; links aren't followed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not (entry.name.startswith(".") and not prefix):
                    yield from _below(folder / entry.name, f"{prefix}{entry.name}/")
            else:
                yield f"{prefix}{entry.name}", entry.stat(follow_symlinks=False).st_mode
