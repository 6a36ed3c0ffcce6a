"""Every error a user can meet: what happened, where, and what to try next.

Each class has one exit code, so a script can tell "the model is wrong" from "the disk is full".
"""

from __future__ import annotations

import errno

__version__ = "0.1.0"


class MxError(Exception):
    """Base of every expected failure.

    `message` says what happened and where, on one line; `hint` says what to try. A third-party error is
    kept as `__cause__` and shown by `mx --debug`.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(_shortened(message))
        self.message = _shortened(message)
        self.hint = _shortened(hint)

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(MxError):
    """The command line itself is wrong: an unknown command, a missing argument."""

    exit_code = 2


class ParityError(MxError):
    """The written artifact does not compute what the source computes."""

    exit_code = 3


class SourceError(MxError):
    """The model reference can't be resolved: missing path, wrong attribute, a factory that raises."""

    exit_code = 4


class TargetError(MxError):
    """The target is unknown, broken, not installed, or does not implement the verb."""

    exit_code = 5


class OptionError(MxError):
    """A `-k key=value` that the target does not know, or a value of the wrong type."""

    exit_code = 6


class OutputError(MxError):
    """The output place can't be written: permissions, a full disk, somebody else's folder."""

    exit_code = 7


class ArtifactError(MxError):
    """An artifact on disk is missing, damaged, or written by a newer modelexport."""

    exit_code = 8


class InputError(MxError):
    """Input data does not fit the model: name, dtype, rank, size or range."""

    exit_code = 9


class CaptureError(MxError):
    """torch.export can't capture the model."""

    exit_code = 10


class ConversionError(MxError):
    """A converter refused the model, or wrote something other than what was asked."""

    exit_code = 11


class ReferenceError(MxError):
    """The source gives no reference to compare with: random outputs, NaN, an error in eager mode."""

    exit_code = 12


class RuntimeFailure(MxError):
    """A runtime failed, or took its process down, while it loaded or ran an artifact."""

    exit_code = 13


class UnsafeFileError(MxError):
    """Reading or running a file could do more than compute: run Python code that it holds, or open other files."""

    exit_code = 14


class CannotRunHere(MxError):
    """The artifact is fine, but this machine lacks what running it takes (a GPU, macOS…).

    Plugins raise it from `mx_run`; the parity gate then records `"verified": "structure"` with the reason.
    """

    exit_code = 15


def out_of_memory(error: MemoryError) -> MxError:
    """What a MemoryError is to a user, wherever it arose."""
    return MxError(
        f"out of memory: {first_line(error)}",
        "give less data or smaller dims, or more memory: is it limited (ulimit -v, a container)?",
    )


def _shortened(text: str, most: int = 2000) -> str:
    """A text without its middle, where it quotes something long."""
    return text if len(text) <= most else f"{text[: most * 2 // 3]} … {text[-most // 3 :]}"


def is_disk_error(error: BaseException | None) -> bool:
    """Whether `error`, or what caused it, is the disk's or the file system's: full, over quota, read-only."""
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
    while error is not None:
        if isinstance(error, OSError) and error.errno in codes:
            return True
        error = error.__cause__ or error.__context__
    return False


def root_cause(error: BaseException) -> BaseException:
    """The error that `error` was raised from, and that one from, to the first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def first_line(error: BaseException) -> str:
    """The first line of an error's text, for messages that must fit on one."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def a(noun: str) -> str:
    """The noun with its article.

    >>> a("int"), a("text"), a("onnx artifact")
    ('an int', 'a text', 'an onnx artifact')
    """
    return f"an {noun}" if noun[:1].lower() in {*"aeio"} else f"a {noun}"
