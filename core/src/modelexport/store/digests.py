"""The sha256 of files, folders and artifacts: what tells whether something is what it was."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ..contract.artifacts import Artifact


def artifact_fingerprint(artifact: Artifact) -> str:
    """The sha256 over the names and contents of an artifact's files; the manifest alone may differ."""
    digest = hashlib.sha256()
    for entry in artifact.files:
        digest.update(f"{entry.path} {entry.sha256}\n".encode())
    return digest.hexdigest()


def origin(artifact: Artifact) -> dict[str, Any]:
    """The lineage's record of the artifact that another one is made from."""
    return {"ref": str(artifact.path), "format": artifact.format, "fingerprint": artifact_fingerprint(artifact)}


def tree_sha256(root: Path) -> str:
    """The sha256 of a file; of a folder, that over the names and contents of the files below it."""
    if root.is_file():
        return sha256(root)
    digest = hashlib.sha256()
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(root).as_posix()} {sha256(file)}\n".encode())
    return digest.hexdigest()


def sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb", buffering=0) as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
