"""model.engine → Session, on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelexport.errors import CannotRunHere

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelexport.types import Arrays, Artifact, Session

    from . import RunOptions


def open_artifact(artifact: Artifact, options: RunOptions) -> Session:
    raise CannotRunHere("no NVIDIA driver", "run it on a machine with a GPU")


def benchmark(artifact: Artifact, inputs: Arrays, options: RunOptions) -> Mapping[str, Any]:
    return {}
