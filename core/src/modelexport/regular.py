"""Open a file that somebody else may have made: only a regular one, and only as many bytes as can be taken.

A FIFO would wait for a writer for ever, a device never ends, and a link may lead round in circles. Every reader of
a user's or a stranger's file opens it here.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import InputError, MxError

#: the most entries that are looked at below a folder
ENTRIES = 2_000_000

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def open_regular(path: Path, limit: int | None = None, kind: type[MxError] = InputError) -> BinaryIO:
    """The file at `path`, open for reading. `limit`: the most bytes that it may have.

    Raises `kind` where it is no regular file, is larger than `limit`, can't be reached or may not be read.
    """
    try:
        # without O_NONBLOCK, opening a FIFO waits for whoever writes into it
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        raise _refused(path, error, kind) from error
    try:
        _check(path, os.fstat(descriptor), limit, kind)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_regular(path: Path, limit: int | None = None, kind: type[MxError] = InputError) -> int:
    """The size of the file at `path` in bytes, for a library that opens it itself.

    Raises `kind` as `open_regular` does, but for a file that may not be read.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise _refused(path, error, kind) from error
    _check(path, status, limit, kind)
    return status.st_size


def check_path(path: str | os.PathLike[str], kind: type[MxError] = InputError) -> None:
    """Raise `kind` where nothing can be reached at `path`, whatever is to be done with it; absent is fine.

    It is empty or too long, leads round in circles or through a folder that is closed, or is no text that a
    manifest could name. `Path.exists` and its like raise for some of these.
    """
    text = os.fspath(path)
    try:
        if not text:
            raise ValueError("it is empty")
        text.encode("utf-8")
        os.stat(text)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        raise _refused(Path(text), error, kind) from error


def files_below(folder: Path, kind: type[MxError] = InputError) -> Iterator[os.DirEntry[str]]:
    """Everything below `folder` but folders, in no order; links to folders and closed folders are passed by.

    Raises `kind` for more than `ENTRIES` entries, and where a folder can't be read.
    """
    waiting, seen = [str(folder)], 0
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                for seen, entry in enumerate(entries, seen + 1):  # noqa: B020
                    if seen > ENTRIES:
                        raise kind(f"{folder} holds more than {ENTRIES} entries", "give a smaller folder")
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        yield entry
        except PermissionError:
            continue
        except OSError as error:
            raise _refused(Path(here), error, kind) from error


def is_regular(entry: os.DirEntry[str]) -> bool:
    """Whether it is a regular file, or a link to one."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _check(path: Path, status: os.stat_result, limit: int | None, kind: type[MxError]) -> None:
    if not stat.S_ISREG(status.st_mode):
        what = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise kind(f"{path} is {what}", "give the path of a regular file")
    if limit is not None and status.st_size > limit:
        raise kind(
            f"{path} has {status.st_size} bytes, more than the {limit} that are read of such a file",
            "is it the right one? Split it, or make it smaller",
        )


def _refused(path: Path, error: OSError | ValueError, kind: type[MxError]) -> MxError:
    """The error for a path that leads nowhere: there is nothing, no right to read it, or no path at all."""
    if isinstance(error, FileNotFoundError):
        return kind(f"no file {path}", "check the path")
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return kind(f"{path} is a link that leads round in circles", "give the path of a regular file")
    why = error.strerror if isinstance(error, OSError) else str(error)
    return kind(f"can't read {str(path)[:200]!r}: {why}", "give the path of a regular file that you may read")
