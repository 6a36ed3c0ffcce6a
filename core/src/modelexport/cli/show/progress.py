"""What long work says of itself on stderr while it runs: every stage on a terminal, now and then in a log."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TextIO

from ...contract.progress import Event, Progress
from .. import stopping

#: seconds until a log is told what is being done, and the most between two such lines: each takes twice as long
PATIENCE, LEAST_OFTEN = 20.0, 60.0


@contextmanager
def shown() -> Iterator[Progress]:
    """A line for each stage with the time it took, and a count while one with steps runs.

    Where stderr is no terminal, short work is silent, and work that lasts says every so often where it is.
    """
    if sys.stderr is None:
        yield lambda _: stopping.insist()
        return
    # A descriptor of its own: stages redirect stderr, and what toolchains write past Python to its descriptor.
    with _stderr() as stream, (_on_terminal if stream.isatty() else _in_log)(stream) as tell:
        yield tell


@contextmanager
def _stderr() -> Iterator[TextIO]:
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (OSError, ValueError):  # a stream of Python's that is no file
        yield sys.stderr
        return
    stream = os.fdopen(descriptor, "w", encoding="utf-8")
    try:
        yield stream
    finally:
        with suppress(OSError):  # what could not be written is tried again
            stream.close()


@contextmanager
def _on_terminal(terminal: TextIO) -> Iterator[Progress]:
    from rich.console import Console

    console = Console(file=terminal, highlight=False)
    begun = time.monotonic()
    with console.status("starting") as status:
        stages = _Stages(console, status)
        yield stages.tell
        stages.end()
    console.print(f"  [dim]done in {time.monotonic() - begun:.1f} s[/dim]")


@contextmanager
def _in_log(stream: TextIO) -> Iterator[Progress]:
    log = _Log(stream)
    watcher = threading.Thread(target=log.watch, daemon=True)
    watcher.start()
    try:
        yield log.tell
    finally:
        log.over.set()
        watcher.join()


@dataclass
class _Log:
    """The stage that runs, for whoever reads a log of it."""

    stream: TextIO
    over: threading.Event = field(default_factory=threading.Event)
    last: Event | None = None
    begun: float = field(default_factory=time.monotonic)

    def tell(self, event: Event) -> None:
        stopping.insist()
        self.last = event

    def watch(self) -> None:
        wait = PATIENCE
        while not self.over.wait(wait):
            wait = min(2 * wait, LEAST_OFTEN)
            with suppress(OSError, ValueError):  # the log is full or closed: the work goes on
                print(
                    f"{self.last or 'starting'} ({time.monotonic() - self.begun:.0f} s)",
                    file=self.stream,
                    flush=True,
                )


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
