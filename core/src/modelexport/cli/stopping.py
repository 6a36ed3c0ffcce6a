"""A command that is stopped leaves nothing: SIGTERM and SIGHUP end it as Ctrl-C does."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ..errors import OutputError

#: the signal that stopped this process, if one did, and when the last one came
_received: list[int] = []
_last = -math.inf

#: seconds within which a second signal is the same wish: whoever ends a group of processes, ends each of them, and
#: those hand it on to each other
_SAME = 1.0


def listen() -> None:
    """From now on, a signal that asks the process to end raises KeyboardInterrupt, so that all is put in order."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # whoever started us with nohup, or in the background of a script, wants the signal ignored
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, _: Any) -> None:
    global _last
    before, _last = _last, time.monotonic()
    if _last - before > _SAME:
        _received.append(number)
        raise KeyboardInterrupt


def insist() -> None:
    """Raise KeyboardInterrupt again where a library has taken the first for an error of its own and gone on."""
    if _received:
        raise KeyboardInterrupt


def was_asked() -> bool:
    """Whether this process was asked to end: whatever error it ends with then comes from that."""
    return bool(_received)


def reason() -> tuple[int, str]:
    """The exit code of a process that was stopped, and what to say of it."""
    number = _received[0] if _received else signal.SIGINT
    said = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
    return 128 + number, said


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
