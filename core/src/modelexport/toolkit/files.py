"""Existing model files as sources: what every reader of somebody's file checks and says in the same way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..contract.sources import LoadOptions, Source
from ..contract.tensors import Dim, TensorSpec, unify_dims
from ..errors import MxError, SourceError, UnsafeFileError, first_line, is_disk_error
from ..plugins.installed import importable


def check_readable(path: Path, kind: str, needs: Sequence[str], install: str) -> None:
    """Raise SourceError where there is no file `path`, or a package that reading it needs is not installed.

    `kind` names such a file in the hint ("a .onnx file").
    """
    if not path.is_file():
        raise SourceError(f"no file {path}", f"give the path of {kind}")
    for module in needs:
        if not importable(module):
            raise SourceError(f"reading {path} needs {module}", install)


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Whatever goes wrong inside the block is a SourceError that names the file; `kind` is what it should be.

    An UnsafeFileError stays what it is.
    """
    try:
        yield
    except (SourceError, UnsafeFileError):
        raise
    except MxError as error:
        said = error.message if str(path) in error.message else f"{path}: {error.message}"
        raise SourceError(said, error.hint) from error
    except Exception as error:
        if is_disk_error(error):
            raise
        raise SourceError(
            f"{path} is no {kind}, or a damaged one: {first_line(error)}",
            "make the file again; --debug shows the whole trace",
        ) from error


def declared(path: Path, own: Sequence[TensorSpec], options: LoadOptions) -> tuple[TensorSpec, ...]:
    """The inputs as `--input` declares them, else the file's `own`.

    Raises SourceError where the declared ones are of other dtypes or ranks than the file's.
    """
    if not options.inputs:
        return tuple(own)
    specs = unify_dims([TensorSpec.parse(text) for text in options.inputs])
    if [(s.dtype, len(s.shape)) for s in specs] != [(s.dtype, len(s.shape)) for s in own]:
        raise SourceError(f"{path} takes other inputs than declared", f"it takes {', '.join(map(str, own))}")
    return specs


def size_in_file(size: int | str | None, name: str, axis: int) -> int | Dim:
    """A size as a file has it: a number, or a dim, named as it is there or else by its input and axis."""
    if isinstance(size, int) and size > 0:
        return size
    return Dim(size if isinstance(size, str) and size else f"{name}_dim{axis}")


def copy_as(source: Source, place: Path) -> None:
    """Copy the file (or folder) of a source to `place`, byte by byte."""
    assert source.path is not None
    if source.path.is_dir():
        shutil.copytree(source.path, place)
    else:
        shutil.copyfile(source.path, place)
