"""Folders to work in, of which no killed run leaves anything.

A folder is locked as long as its process works in it. Whoever makes the next one removes those that are not locked
any more, and the unfinished artifacts that they account for, wherever these lie. A process's number would not do
to tell the dead: it is given again, and containers that share a disk count each on its own.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..errors import OutputError
from ..regular import open_regular
from .locks import locked

#: what makes a folder ours: a part that `tempfile` draws, and what stands around it
_DRAWN = r"mx-[a-z0-9_]{8}\.tmp"
_SCRATCH = re.compile(rf"modelexport-[a-z0-9-]+\.{_DRAWN}")
_DRAFT = re.compile(rf"\..+\.{_DRAWN}", re.DOTALL)

#: in a scratch folder: the path of an unfinished artifact elsewhere that goes with it
_ACCOUNT = "unfinished"

#: the most bytes of a path
_LONGEST = 1 << 16

#: seconds to wait for another run that takes a folder for a leftover in the instant before it is locked
_INSTANT = 5.0


@contextmanager
def scratch(purpose: str) -> Iterator[Path]:
    """An empty folder in the system's temporary one; it is removed with all that is in it.

    Raises OutputError where nothing can be written there.
    """
    with ExitStack() as stack:
        try:
            clear()
            folder = stack.enter_context(_held(Path(tempfile.gettempdir()), f"modelexport-{purpose}."))
        except OSError as error:
            raise OutputError(
                f"can't write into the temporary folder: {error.strerror or error}",
                "free some space in it, or name another with the environment variable TMPDIR",
            ) from error
        yield folder


@contextmanager
def draft(parent: Path, name: str) -> Iterator[Path]:
    """A hidden folder in `parent` to make `name` in; what is left at its path at the end is removed."""
    _clear(parent, _DRAFT)
    with scratch("draft") as account, _held(parent, f".{name}.") as folder:
        # noted elsewhere, since nobody knows where a killed run's output went
        (account / _ACCOUNT).write_bytes(os.fsencode(folder.absolute()))
        yield folder


@contextmanager
def _held(root: Path, prefix: str) -> Iterator[Path]:
    with ExitStack() as stack:
        while True:
            folder = Path(tempfile.mkdtemp(prefix=f"{prefix}mx-", suffix=".tmp", dir=root))
            lock = stack.enter_context(locked(folder, alone=True, patience=_INSTANT))
            stack.callback(discard, folder)  # before the lock is let go: nobody else is to clear up meanwhile
            if lock.current and folder.is_dir():
                break
        yield folder


def discard(path: Path) -> None:
    """Remove a folder, or the link to one that took its place."""
    if path.is_symlink():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


# --------------------------------------------------------------------------------------- leftovers


def clear() -> None:
    """Remove what killed runs left in the temporary folder, and what that accounts for."""
    _clear(Path(tempfile.gettempdir()), _SCRATCH)


def _clear(root: Path, ours: re.Pattern[str]) -> None:
    """Remove what killed runs left in `root`."""
    try:
        names = [entry.name for entry in os.scandir(root) if ours.fullmatch(entry.name)]
    except OSError:  # there is no such folder yet, or it may not be read
        return
    for name in names:
        _remove(root / name)


def _remove(folder: Path) -> None:
    """Remove a folder of ours that nobody works in, and first what it accounts for."""
    if folder.is_symlink() or not _is_own(folder):
        return
    with locked(folder, alone=True, patience=0) as lock:
        if not lock.held or not lock.current:
            return
        for unfinished in _accounted(folder):
            if _DRAFT.fullmatch(unfinished.name) and unfinished.is_absolute():
                _remove(unfinished)
        discard(folder)


def _accounted(folder: Path) -> list[Path]:
    """The unfinished artifacts that a folder, and those within it, account for."""
    paths = []
    for parent, _, names in os.walk(folder):  # which passes by what goes away meanwhile
        if _ACCOUNT in names:
            try:
                with open_regular(Path(parent, _ACCOUNT), _LONGEST, OutputError) as stream:
                    paths.append(Path(os.fsdecode(stream.read())))
            except OutputError:  # it is gone, or none of ours
                continue
    return paths


def _is_own(folder: Path) -> bool:
    """Whether it is this user's: others may put anything into a shared temporary folder."""
    try:
        return folder.is_dir() and (not hasattr(os, "geteuid") or folder.stat().st_uid == os.geteuid())
    except OSError:
        return False
