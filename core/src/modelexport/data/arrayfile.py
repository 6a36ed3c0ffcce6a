"""Files of arrays as calibration data: .npz and .npy, read an entry at a time, so that they may exceed memory."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .. import errors
from ..contract.tensors import TensorSpec
from ..errors import InputError
from .readers import ARRAYS, Kind, Row, opened

if TYPE_CHECKING:
    from ..contract.tensors import Array

#: bytes to pass over at once on the way to the next entry
STRIDE = 1 << 20


@dataclass(frozen=True)
class ArrayFile:
    """A .npz or .npy whose arrays have the rows, or whole samples, along their first axis."""

    path: Path
    members: tuple[Member, ...]
    unit: str
    kind: Kind = "arrays"
    sequential: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: Path, specs: Sequence[TensorSpec]) -> ArrayFile:
        members = read_members(path)
        if path.suffix.lower() == ".npy":
            if len(specs) != 1:
                raise InputError(f"{path} holds one array, the model has {len(specs)} inputs", ARRAYS)
            members = [replace(members[0], name=specs[0].name)]
        wanted = {spec.name: len(spec.shape) for spec in specs}
        listed = f"the inputs: {', '.join(map(str, specs))}"
        shapes = {member.name: member.shape for member in members}
        if unknown := sorted(set(shapes) - set(wanted)):
            raise InputError(f"{path}: the model has no input {unknown[0]!r}", listed)
        if missing := sorted(set(wanted) - set(shapes)):
            raise InputError(f"{path} holds nothing for input {missing[0]!r}", listed)
        more = {len(shape) - wanted[name] for name, shape in shapes.items()}
        if more not in ({0}, {1}) or () in shapes.values():
            raise InputError(
                f"{path}: the ranks don't fit: {_counts({name: len(shape) for name, shape in shapes.items()})}",
                f"give every input its own rank (first axis: rows), or each one more (samples); {listed}",
            )
        numbers = {name: shape[0] for name, shape in shapes.items()}
        if len(set(numbers.values())) > 1:
            raise InputError(f"{path} holds different numbers of rows: {_counts(numbers)}", "give as many of each")
        return cls(path, tuple(members), "row" if more == {0} else "sample")

    def count(self, most: int) -> int:
        return self.members[0].shape[0]

    def read(self, indices: Sequence[int]) -> Iterator[Row]:
        streams = {member.name: member.entries(indices) for member in self.members}
        for index in indices:
            where = f"{self.unit} {index} of {self.path}"
            with readable(where):
                arrays = {name: next(stream) for name, stream in streams.items()}
            yield Row(where, arrays)


def _counts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{number} of {name!r}" for name, number in numbers.items())


@dataclass(frozen=True)
class Member:
    """One array of a file: how to open its bytes, and what its header says of them."""

    name: str
    open: Callable[[], IO[bytes]]
    offset: int
    shape: tuple[int, ...]
    dtype: Any
    fortran: bool

    def entries(self, indices: Iterable[int]) -> Iterator[Array]:
        """Entries along the first axis, at ascending indices. Raises ValueError where the file is cut off."""
        import numpy as np

        with self.open() as stream:
            if self.fortran:  # the bytes of an entry lie scattered over the whole array
                whole = np.lib.format.read_array(stream, allow_pickle=False)
                yield from (np.ascontiguousarray(whole[index]) for index in indices)
                return
            size = math.prod(self.shape[1:]) * self.dtype.itemsize
            for index in indices:
                start = self.offset + index * size
                while (gap := start - stream.tell()) > STRIDE:
                    stream.seek(STRIDE, os.SEEK_CUR)
                stream.read(gap)  # not a seek, after which zipfile no longer checks the sum
                entry = np.empty(self.shape[1:], self.dtype)
                if stream.readinto(entry.reshape(-1).view(np.uint8)) != size:  # type: ignore[attr-defined]
                    raise ValueError(f"array {self.name!r} is cut off")
                yield entry


def read_members(path: Path) -> list[Member]:
    """The arrays of a .npz by name, or of a .npy, whose only one is called after the file.

    Raises InputError when the file is damaged, or would have to be unpickled.
    """
    from zipfile import ZipFile

    with readable(path):
        if path.suffix.lower() != ".npz":
            return [_read_header(path.stem, partial(opened, path), path.stat().st_size)]
        with ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist() if not info.is_dir()}
        return [
            _read_header(name.removesuffix(".npy"), partial(_open_member, path, name), size)
            for name, size in sizes.items()
        ]


def _open_member(path: Path, name: str) -> IO[bytes]:
    from zipfile import ZipFile

    with ZipFile(path) as archive:  # an open member keeps the file open
        return archive.open(name)


def _read_header(name: str, opener: Callable[[], IO[bytes]], size: int) -> Member:
    import numpy as np

    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with opener() as stream:
        version = np.lib.format.read_magic(stream)
        if version not in readers:
            raise ValueError(f"array {name!r} has format {version}")
        shape, fortran, dtype = readers[version](stream)
        offset = stream.tell()
    if dtype.hasobject or dtype.kind not in "biufc":
        raise ValueError(f"array {name!r} holds {dtype}, not numbers")
    if size - offset != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"array {name!r} of shape {shape} has {size - offset} bytes")
    return Member(name, opener, offset, shape, dtype, fortran)


@contextmanager
def readable(where: Path | str) -> Iterator[None]:
    """What reading a damaged file raises becomes an InputError that says `where`."""
    import zlib
    from zipfile import BadZipFile

    try:
        yield
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"can't read {where}: {errors.first_line(error)}", "write it with numpy.savez(path, NAME=array)"
        ) from error
