"""Bounds of time and memory around a call in this process: what hangs or swells fails, and harms nobody."""

import contextlib
import resource
import signal
from pathlib import Path

#: seconds that refusing a file may take, and bytes that it may take beyond what is there already
SECONDS, BYTES = 20, 3 << 29


class TooLongError(BaseException):
    """It took longer than it may. No reader may catch it."""


@contextlib.contextmanager
def bounded(seconds=SECONDS, more=BYTES):
    """A MemoryError arises where `more` bytes are wanted, a TooLongError after `seconds`."""

    def late(*_):
        raise TooLongError(f"still at it after {seconds} seconds")

    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    handler = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
