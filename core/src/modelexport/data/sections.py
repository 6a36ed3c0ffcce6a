"""Sections of an artifact's `processing`, and the checks that texts and images share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contract.artifacts import Artifact
from ..contract.tensors import Dim
from ..errors import InputError
from ..plugins import known
from ..plugins.installed import importable


def section(artifact: Artifact, name: str, what: str) -> Mapping[str, Any]:
    """A section of the artifact's `processing`. Raises InputError, which calls it `what`, when it has none."""
    found = artifact.processing.get(name)
    if isinstance(found, Mapping):
        return found
    reason = artifact.processing.get("left_out", {}).get(name)
    raise InputError(f"this artifact carries no {what}" + (f": {reason}" if reason else ""), "give --input")


def check_rows(size: int | Dim, count: int, what: str) -> None:
    if count == 0:
        raise InputError(f"no {what} is given", f"give at least one {what}")
    if isinstance(size, int) and size != count:
        raise InputError(
            f"this artifact takes batches of exactly {size}, {count} {what}{'s' * (count > 1)} were given",
            f"give {size} at a time, or export with a dynamic batch: --input 'NAME:DTYPE[batch,…]'",
        )
    if isinstance(size, Dim) and not size.allows(count):
        raise InputError(
            f"{count} {what}s don't fit the batch sizes of this artifact: {size}", "give fewer or more"
        )


def need(module: str, doing: str) -> None:
    if not importable(module):
        raise InputError(f"{doing} needs {module}", known.MODULES[module])
