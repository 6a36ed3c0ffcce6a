"""What long work says of itself while it runs, on stderr where that is a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...contract.progress import Event, Progress
from .. import stopping


@contextmanager
def shown() -> Iterator[Progress]:
    """A line for each stage with the time it took, and a count while one with steps runs; nothing into a pipe."""
    if not sys.stderr.isatty():
        yield lambda _: stopping.insist()
        return
    from rich.console import Console

    # A descriptor of its own: stages redirect stderr, and what toolchains write past Python to its descriptor.
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8") as terminal:
        console = Console(file=terminal, highlight=False)
        begun = time.monotonic()
        with console.status("starting") as status:
            stages = _Stages(console, status)
            yield stages.tell
            stages.end()
        console.print(f"  [dim]done in {time.monotonic() - begun:.1f} s[/dim]")


@dataclass
class _Stages:
    """The stage that runs, with when it began."""

    console: Any
    status: Any
    last: Event | None = None
    begun: float = 0.0

    def tell(self, event: Event) -> None:
        stopping.insist()
        if self.last is None or event.stage != self.last.stage:
            self.end()
            self.begun = time.monotonic()
        self.last = event
        self.status.update(str(event))

    def end(self) -> None:
        if self.last is not None:
            self.console.print(f"  [dim]{self.last} ({time.monotonic() - self.begun:.1f} s)[/dim]")
