"""Readers of an artifact beside whoever replaces it: each sees one version whole.

A reader shares a lock on the artifact's folder until it has read what it needs; a writer waits for the readers,
and then puts the new folder in place. On its way to that lock everyone passes the folder around it: a writer
stands there until it is through, so that readers who keep coming don't keep it out. Nobody waits for ever. A
writer that lost its patience replaces the artifact all the same, and readers notice, and read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from ..errors import ArtifactError
from .locks import Lock, locked

T = TypeVar("T")

#: seconds that a writer waits for readers, and a reader for a writer that stands before it
PATIENCE = 20.0

#: how often something is read before its reader gives up
ATTEMPTS = 5

#: the artifacts that this context reads already: a reader within a reader is the same one
_READING: ContextVar[tuple[Lock, ...]] = ContextVar("modelexport artifacts being read", default=())


@contextmanager
def reading(root: Path) -> Iterator[Lock]:
    """Keep the artifact at `root` from being replaced while the block lasts.

    A writer waits no longer than `PATIENCE`: where the block may take longer, look at the end whether the lock is
    still `current`.
    """
    place = root.absolute()
    for outer in _READING.get():
        if outer.path == place and outer.current:
            yield outer
            return
    with ExitStack() as stack:
        token = _READING.set((*_READING.get(), _shared(place, stack)))
        try:
            yield _READING.get()[-1]
        finally:
            _READING.reset(token)


def _shared(place: Path, stack: ExitStack) -> Lock:
    for _ in range(ATTEMPTS):
        with ExitStack() as attempt:
            with locked(place.parent, alone=False, patience=PATIENCE):
                lock = attempt.enter_context(locked(place, alone=False, patience=PATIENCE))
            if lock.current:
                stack.push(attempt.pop_all())
                return lock
    return stack.enter_context(locked(place, alone=False, patience=0))


@contextmanager
def replacing(root: Path) -> Iterator[None]:
    """Put something else at `root`, or into it, while nobody reads it: for as short as can be."""
    place = root.absolute()
    with locked(place.parent, alone=True, patience=PATIENCE), locked(place, alone=True, patience=PATIENCE):
        yield


def steady(root: Path, read: Callable[[], T], undo: Callable[[T], object] = lambda _: None) -> T:
    """What `read` returns, all of it from one version of the artifact at `root`.

    `read` is called again, after `undo` of its result, where the artifact was replaced meanwhile; what it raises
    counts only where it was not. Raises ArtifactError where it was replaced every time.
    """
    for _ in range(ATTEMPTS):
        with reading(root) as lock:
            try:
                result = read()
            except Exception:
                if lock.current:
                    raise
                continue
            if lock.current:
                return result
            undo(result)
    raise replaced(root)


def check(lock: Lock) -> None:
    """Raise ArtifactError where the artifact of a `reading` was replaced: what was made from it may be of two."""
    if not lock.current:
        raise replaced(lock.path)


def replaced(root: Path) -> ArtifactError:
    """The error for an artifact that did not stay what it was while something was made of it."""
    return ArtifactError(
        f"{root} was replaced while it was read", "run the command again when nothing writes to it any more"
    )
