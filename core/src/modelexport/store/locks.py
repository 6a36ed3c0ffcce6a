"""Locks on folders. They end with the process that holds them, however that ends: a killed one holds nothing.

The lock is flock(2) on the folder itself, so nothing is written and a folder that may only be read can be locked.
Where there is no such lock, on Windows and some network file systems, nobody holds anything and nobody waits.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: seconds between two looks at a lock that another process holds
_PAUSE = 0.01


@dataclass(frozen=True)
class Lock:
    """A folder that is open. `held`: whether it is locked, too."""

    path: Path
    descriptor: int | None
    held: bool

    @property
    def current(self) -> bool:
        """Whether the path still leads to the folder that was opened, and not to one that took its place."""
        if self.descriptor is None:
            return True
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self.descriptor))  # noqa: PTH116
        except FileNotFoundError:
            return False


@contextmanager
def locked(folder: Path, alone: bool, patience: float) -> Iterator[Lock]:
    """The folder, locked while the block lasts: with others that share it, or `alone`.

    Waits `patience` seconds at most. Whoever did not get the lock by then, and whoever can't open the folder, goes
    on without: `Lock.held` says so.
    """
    descriptor = _open(folder)
    if descriptor is None:
        yield Lock(folder, None, held=False)
        return
    try:
        yield Lock(folder, descriptor, _take(descriptor, alone, patience))
    finally:
        os.close(descriptor)


def _open(folder: Path) -> int | None:
    if fcntl is None:
        return None
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None


def _take(descriptor: int, alone: bool, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EINTR) or time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE)
        else:
            return True
