"""A command that is stopped leaves nothing: SIGTERM and SIGHUP end it as Ctrl-C does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ..errors import OutputError

#: the signal that stopped this process, if one did
_received: list[int] = []


def listen() -> None:
    """From now on, a signal that asks the process to end raises KeyboardInterrupt, so that all is put in order."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # whoever started us with nohup wants the signal ignored
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _stop)


def _stop(number: int, _: Any) -> None:
    _received.append(number)
    raise KeyboardInterrupt


def reason() -> tuple[int, str]:
    """The exit code of a process that was stopped, and what to say of it."""
    if not _received:
        return 128 + signal.SIGINT, "interrupted"
    return 128 + _received[0], f"stopped by {signal.Signals(_received[0]).name}"


@contextmanager
def tidy() -> Iterator[None]:
    """What libraries write into the temporary folder goes with the block, or with what a killed run left."""
    import tempfile

    from ..store.scratch import scratch

    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch("run"))
        except OutputError:  # not every command needs one, and those that do will say so
            yield
            return
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before
            if variable is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = variable
