"""What long work says of itself while it runs: which stage begins, and how many of its steps are done.

Whoever starts the work says with `telling` who is to be told; the work itself calls `stage` and `steps` from
wherever it is, and nothing has to be handed down to it. Work that nobody asked to be told about is silent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Event:
    """One thing that happened: `str(event)` is a line for people.

    `stage` says what is being done. `done` counts the steps of it that are finished, out of `total` where that is
    known; None where a stage begins. `reused` is the place of an artifact that stands for the stage, which is
    skipped.
    """

    stage: str
    done: int | None = None
    total: int | None = None
    reused: Path | None = None

    def __str__(self) -> str:
        if self.done is None:
            return self.stage
        return f"{self.stage}: {self.done}" + (f" of {self.total}" if self.total is not None else "")


#: called with every event, in the thread that works
Progress = Callable[[Event], None]


def silent(_: Event) -> None:
    """The Progress of those who don't want any."""


_TOLD: ContextVar[Progress] = ContextVar("modelexport progress", default=silent)


@contextmanager
def telling(progress: Progress) -> Iterator[None]:
    """Tell `progress` of everything that happens inside the block."""
    token = _TOLD.set(progress)
    try:
        yield
    finally:
        _TOLD.reset(token)


def stage(what: str) -> None:
    """A stage of the work begins, such as "capture with torch.export"."""
    _TOLD.get()(Event(what))


def steps(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Go through `items`, and tell how many are done: for a hook that takes minutes.

    `total` is how many there are, where `items` can't say it itself.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    told = _TOLD.get()
    told(Event(what, 0, total))
    for count, item in enumerate(items, 1):
        yield item
        told(Event(what, count, total))


def count(what: str, done: int, total: int | None = None) -> None:
    """`done` steps of a stage are finished: for work that is no loop over items."""
    _TOLD.get()(Event(what, done, total))


def reused(place: Path) -> None:
    """A finished artifact stands for the stage that would make it again."""
    _TOLD.get()(Event(f"reused {place} (same model, options and tools)", reused=place))
