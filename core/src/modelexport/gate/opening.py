"""An artifact and a session on it, both of one version: it may be replaced at any time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..contract.artifacts import Artifact
from ..contract.sessions import Session
from ..plugins import calls
from ..store import manifest, versions


def open_artifact(
    path: str | os.PathLike[str], values: Mapping[str, Any], check_files: bool = True
) -> tuple[Artifact, Session]:
    """The artifact at `path`, and a session on it with the run options in `values`.

    With `check_files`, after hashing every file. Raises what `manifest.read` and `calls.open_session` raise.
    """
    root = Path(path)

    def both() -> tuple[Artifact, Session]:
        artifact = manifest.read(root, check_files)
        return artifact, calls.open_session(artifact, values)

    return versions.steady(root, both, undo=lambda opened: opened[1].close())
