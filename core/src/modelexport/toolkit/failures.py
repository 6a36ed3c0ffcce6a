"""What a toolchain raises, as an error that a user can act on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import ConversionError, MxError, first_line, is_disk_error, root_cause


@contextmanager
def translated(refused: Callable[[Exception], MxError]) -> Iterator[None]:
    """Whatever a toolchain raises inside the block becomes `refused(error)`, with the error itself as its cause.

    An MxError stays what it is, and so does an error of the disk: core says that the disk is full.
    """
    try:
        yield
    except MxError:
        raise
    except Exception as error:
        if is_disk_error(error):
            raise
        raise refused(error) from error


def failed(what: str, hint: str) -> Callable[[Exception], ConversionError]:
    """For `translated`: a ConversionError that says `what` failed, and the first line of the error behind it.

    >>> failed("torchao can't quantize the program", "try another mode")(ValueError("no axis 3")).message
    "torchao can't quantize the program: ValueError: no axis 3"
    """

    def refused(error: Exception) -> ConversionError:
        root = root_cause(error)
        return ConversionError(f"{what}: {type(root).__name__}: {first_line(root)}", hint)

    return refused
