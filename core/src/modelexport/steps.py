"""What each step of a lineage was made from, recorded so that it can be told whether it is still the same."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import manifest
from .types import Artifact

if TYPE_CHECKING:
    from .calibration import Calibration
    from .evidence import Wish


def fingerprint(artifact: Artifact) -> str:
    """The sha256 over the names and contents of an artifact's files; the manifest alone may differ."""
    digest = hashlib.sha256()
    for entry in artifact.files:
        digest.update(f"{entry.path} {entry.sha256}\n".encode())
    return digest.hexdigest()


def origin(artifact: Artifact) -> dict[str, Any]:
    """The lineage's record of the artifact that another one was made from."""
    return {"ref": str(artifact.path), "format": artifact.format, "fingerprint": fingerprint(artifact)}


def quantize_origin(artifact: Artifact, calibration: Calibration | None, wish: Wish) -> dict[str, Any]:
    """As `origin`, with the calibration data and the goal, which shape a quantized copy as much."""
    goal: dict[str, Any] = {"metric": wish.metric, "max_drop": wish.max_drop}
    if wish.evaluate is not None:
        goal["evaluate"] = _code(wish.evaluate)
    data = None if calibration is None else {"ref": calibration.ref, "fingerprint": calibration.fingerprint()}
    return {**origin(artifact), "calibration": data, "goal": goal}


def _code(function: Callable[..., Any]) -> dict[str, str | None]:
    """The name of the user's function, and the sha256 of the file it is in, where it is in one."""
    name = getattr(function, "__qualname__", type(function).__name__)
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        file = None
    return {"name": name, "sha256": manifest.sha256(Path(file)) if file and Path(file).is_file() else None}
