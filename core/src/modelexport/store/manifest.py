"""Read and write an artifact's manifest.json.

Reading checks everything it can without loading the model: all that the manifest says (see `document.py`), that
every path stays inside the artifact, and the size and sha256 of every file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from ..contract.artifacts import Artifact, FileEntry
from ..errors import ArtifactError
from ..jsontext import read_json
from ..regular import check_regular
from . import listing, schema
from .digests import sha256

NAME = schema.NAME

#: the most bytes of a manifest: a report of many thousand layers has a few million
LIMIT = 64 << 20


def is_in(folder: Path) -> bool:
    """Whether there is an artifact at `folder`. Where case does not count, another's Manifest.json is none."""
    return (folder / NAME).is_file() and any(file.name == NAME for file in folder.iterdir())


def read(path: str | os.PathLike[str], check_files: bool = True) -> Artifact:
    """Load the artifact at `path`; with `check_files`, after hashing every file it lists.

    Raises ArtifactError when there is none, it is damaged (naming the file), or its schema is newer.
    """
    root = Path(path)
    file = root / NAME
    if not root.exists():
        raise ArtifactError(f"no artifact at {root}", "make one with `mx export SOURCE -t TARGET`")
    if not file.is_file():
        raise ArtifactError(f"{root} is not an artifact: it has no {NAME}", "give the folder `mx export` wrote")
    artifact = schema.from_json(read_json(file, ArtifactError, "export the model again", LIMIT), root)
    listing.check_named(artifact)
    if check_files:
        check(artifact)
    return artifact


def check(artifact: Artifact) -> None:
    """Raise ArtifactError naming the first listed file that is missing or not what was written, or unlisted."""
    listing.check_tree(artifact)
    for entry in artifact.files:
        file = artifact.path / entry.path
        if not file.exists():
            raise ArtifactError(f"{file} is missing from the artifact", "export the model again")
        size = check_regular(file, kind=ArtifactError)
        if size != entry.size:
            raise ArtifactError(
                f"{file} is damaged: {size} bytes, the manifest says {entry.size}", "export the model again"
            )
        if sha256(file) != entry.sha256:
            raise ArtifactError(f"{file} is damaged: its sha256 is not the manifest's", "export the model again")


def write(artifact: Artifact) -> None:
    """Write manifest.json, replacing an existing one in one step. The caller lists the files first."""
    file = artifact.path / NAME
    draft = file.with_name(f".{NAME}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as stream:
            json.dump(schema.to_json(artifact), stream, indent=2, ensure_ascii=False)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def list_files(root: Path) -> tuple[FileEntry, ...]:
    """Every file below `root` but the manifest, with size and sha256, sorted by path."""
    return tuple(
        FileEntry(file.relative_to(root).as_posix(), file.stat().st_size, sha256(file))
        for file in sorted(_walk(root))
        if file.relative_to(root).as_posix() != NAME
    )


def _walk(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path
