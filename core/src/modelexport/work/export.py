"""`mx export` from end to end: check, load, prepare, make every step, and put the results in place together.

Whatever can be wrong with the command is found before the model is loaded. Every step is made in a hidden folder,
and nothing that is in place is replaced before the whole command has succeeded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..contract import progress
from ..contract.artifacts import Artifact
from ..model import resolve
from ..store import versions
from ..store.locks import Lock
from .prepare import prepare_each
from .ways import Request, check, check_options, placed, source_artifact, ways_to, without_own_precision
from .workshop import Workshop


def export(request: Request) -> tuple[Artifact, ...]:
    """Every target's artifact, in the order in which they were asked for.

    Raises a subclass of MxError. Every target gets its turn, whatever happens to the others; then the first error
    is raised, and what was finished is put in place only where that replaces nothing.
    """
    request = without_own_precision(request)
    held = check(request)
    with _source_kept(request.source) as source:
        progress.stage("load the model")
        loaded = resolve.resolve(request.source, request.load)
        steps = ways_to(request, loaded.format, loaded.golden is not None)
        ways = [placed(request, way, loaded.name) for way in steps]
        progress.stage("compute the reference")
        jobs = prepare_each(loaded, held, request.verification)
        for way in ways:
            described = jobs[way.target].described
            check_options(request, way, replace(described.source, inputs=described.specs))
        with Workshop(request, jobs) as workshop:
            for way in sorted(ways, key=lambda way: len(way.steps)):  # what others are made from comes first
                workshop.make(way)
            if source is not None:
                versions.check(source)
            return workshop.deliver(ways)


@contextmanager
def _source_kept(source: Any) -> Iterator[Lock | None]:
    """Keep a source that is an artifact from being replaced while it is exported."""
    if source_artifact(source) is None:
        yield None
    else:
        with versions.reading(Path(source)) as lock:
            yield lock
