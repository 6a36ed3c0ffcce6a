"""Write an artifact so that a killed run leaves nothing that looks finished.

Work happens in a hidden sibling of the final directory; the manifest is written last; then one rename
puts it in place. An artifact that is already there is exchanged with the new one in a single system call
where the kernel has one (Linux `renameat2`); elsewhere it is moved aside first, and the next run moves it
back if it finds that the new one never arrived. What a killed run leaves, the next one removes (`scratch`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..errors import ArtifactError, MxError, OutputError
from . import manifest, scratch, versions


@contextmanager
def output_errors(place: Path, option: str = "-o") -> Iterator[None]:
    """Turn an OSError about the output place, which `option` names, into an OutputError that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = f"free some space, or choose another disk with {option}"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = f"choose a folder that you may write to with {option}"
        else:
            hint = f"choose another folder with {option}"
        raise OutputError(f"can't write {place}: {error.strerror or error}", hint) from error


def check_place(final: Path) -> None:
    """Raise OutputError now, not after minutes of work, if an artifact can't be written at `final`."""
    for place in (final, failed_place(final)):
        _refuse_stranger(place)
    check_folder(final.parent)


def check_folder(folder: Path) -> None:
    """Raise OutputError if nothing can be written into `folder`, or it can't be made. Nothing is made yet."""
    refuse_inside(folder)
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    with output_errors(folder), tempfile.TemporaryFile(dir=there):
        pass


def refuse_inside(folder: Path) -> None:
    """Raise OutputError for a place in an artifact, whose files are those that its manifest lists."""
    inner = folder.resolve()
    for place in (inner, *inner.parents):
        if (place / manifest.NAME).is_file() and _is_artifact(place):
            raise OutputError(f"{folder} is in the artifact {place}", "write beside it")


def _is_artifact(place: Path) -> bool:
    """Other things have a manifest.json too."""
    try:
        manifest.read(place, check_files=False)
    except ArtifactError:
        return False
    return True


def failed_place(final: Path) -> Path:
    """Where an artifact goes that does not pass the gate."""
    return final.with_name(f"{final.name}.failed")


def _refuse_stranger(place: Path) -> None:
    """What is not an artifact is the user's, and is never replaced."""
    if place.exists() and not (place / manifest.NAME).is_file() and (not place.is_dir() or any(place.iterdir())):
        raise OutputError(
            f"{place} is there and is not an artifact", "choose another folder with -o, or another --name"
        )


@contextmanager
def staged(final: Path) -> Iterator[Path]:
    """A directory to build in; the caller ends with `publish`. Whatever is left of it is removed."""
    _bring_back(final)
    with ExitStack() as stack:
        with output_errors(final.parent):
            final.parent.mkdir(parents=True, exist_ok=True)
            draft = stack.enter_context(scratch.draft(final.parent, final.name))
            draft.chmod(0o777 & ~_umask())
        try:
            yield draft
        except OSError as error:
            if isinstance(error, MxError):
                raise
            with output_errors(final):
                raise


@contextmanager
def workshop(final: Path) -> Iterator[Path]:
    """A folder on the disk of `final` to make other artifacts in, which is removed with them at the end."""
    with staged(final) as draft:
        # not the draft itself: that is locked, and writers of what lies in it must pass it
        folder = draft / "work"
        with output_errors(final):
            folder.mkdir()
        yield folder


def publish(draft: Path, final: Path) -> None:
    """Move the finished `draft` to `final`, in place of an artifact that may be there, while nobody reads that."""
    _refuse_stranger(final)
    with output_errors(final), versions.replacing(final):
        try:
            draft.rename(final)
            return
        except OSError:
            if not final.is_dir():
                raise
        if _exchange(draft, final):
            return  # `draft` is the old artifact now, and is removed as such
        aside = _aside(final)
        final.rename(aside)
        draft.rename(final)
        # Back to the draft's name before it is removed: half of an old artifact must not be brought back.
        aside.rename(draft)


def _aside(final: Path) -> Path:
    """Where an artifact stands for a moment where two folders can't be exchanged."""
    return final.with_name(f".{final.name}.old")


def _bring_back(final: Path) -> None:
    """Put an artifact in place again that a killed run had moved aside."""
    aside = _aside(final)
    if not aside.exists():
        return
    with versions.replacing(final), scratch.draft(final.parent, final.name) as leftover:
        if not final.exists() and (aside / manifest.NAME).is_file():
            aside.rename(final)
        elif aside.exists():
            aside.rename(leftover / aside.name)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths atomically; False where the system can't."""
    if not sys.platform.startswith("linux"):
        return False
    at_cwd, rename_exchange = -100, 2
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return bool(
        renameat2(
            at_cwd,
            ctypes.c_char_p(os.fsencode(one)),
            at_cwd,
            ctypes.c_char_p(os.fsencode(other)),
            rename_exchange,
        )
        == 0
    )
