"""Files of arrays of numbers, .npz and .npy: never unpickled, and measured before a value is read.

A header says how large an array is, and the archive's table of contents says so as well: what they say must agree,
and be no more than the file can hold. The format: https://numpy.org/neps/nep-0001-npy-format.html
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from ..errors import InputError, MxError, first_line
from ..regular import open_regular

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

    from ..contract.tensors import Array, Arrays

#: the most bytes of arrays that are read whole, all of a file's together
WHOLE = 4 << 30
#: what an archive may unfold to: this many bytes, and beyond them so many times its own size
UNFOLDED, RATIO = 1 << 30, 100
#: the most arrays of an archive, and the most bytes of its table of contents, which is read whole
MEMBERS, CONTENTS = 20_000, 16 << 20
#: bytes to read at once, and to pass over on the way to the next entry
STRIDE = 1 << 20

#: what a member of an archive may not be, and how it may be compressed (APPNOTE.TXT 4.4.4 and 4.4.5)
_ENCRYPTED, _COMPRESSIONS = 1, (0, 8)

#: kinds of dtype that are numbers
NUMBERS = "biufc"


def load_npz(path: Path, kinds: str = NUMBERS) -> Arrays:
    """Arrays of a .npz by name, in this machine's byte order; `kinds` of dtype are taken.

    Raises InputError for anything else, for a file that is no regular one, and for more than `WHOLE` bytes.
    """
    with readable(path), _silently(), _archive(path) as archive:
        infos = _listed(path, archive)
        _check_whole(sum(info.file_size for info in infos.values()))
        arrays = {}
        for name, info in infos.items():
            with archive.open(info) as stream:
                arrays[name] = _described(name, path, info, stream, info.file_size, kinds).whole(stream)
        return arrays


def load_npy(path: Path) -> Array:
    """The array of numbers in a .npy. Raises InputError as `load_npz` does."""
    with readable(path):
        (member,) = read_members(path)
        _check_whole(member.size)
        with member.opened() as stream:
            return member.whole(stream)


def save_npz(arrays: Arrays, place: Path | IO[bytes]) -> None:
    """Write arrays by any name; numpy.savez keeps a name for itself. Raises OSError."""
    from zipfile import ZipFile

    import numpy as np

    with ZipFile(place, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)


@dataclass(frozen=True)
class Member:
    """One array of a file: where its values lie, and what its header says of them. `info` is None for a .npy."""

    name: str
    path: Path
    info: ZipInfo | None
    offset: int
    shape: tuple[int, ...]
    dtype: Any
    fortran: bool

    @property
    def size(self) -> int:
        """The bytes of its values."""
        return math.prod(self.shape) * int(self.dtype.itemsize)

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Its bytes, from the header on."""
        if self.info is None:
            with open_regular(self.path) as file:
                yield file
        else:
            with _archive(self.path) as archive, archive.open(self.info) as stream:
                yield stream

    def whole(self, stream: IO[bytes]) -> Array:
        """All of it, from a stream of its bytes. Raises ValueError where the file is cut off."""
        import numpy as np

        _pass_over(stream, self.offset)
        flat = np.empty(math.prod(self.shape), self.dtype)
        self._fill(flat, stream)
        flat = _native(flat)
        return flat.reshape(self.shape[::-1]).transpose() if self.fortran else flat.reshape(self.shape)

    def entries(self, indices: Iterable[int]) -> Iterator[Array]:
        """Entries along the first axis, at ascending indices. Raises ValueError where the file is cut off."""
        import numpy as np

        with self.opened() as stream:
            if self.fortran:  # the bytes of an entry lie scattered over the whole array
                _check_whole(self.size)
                whole = self.whole(stream)
                yield from (np.ascontiguousarray(whole[index]) for index in indices)
                return
            size = math.prod(self.shape[1:]) * self.dtype.itemsize
            for index in indices:
                _pass_over(stream, self.offset + index * size)
                entry = np.empty(self.shape[1:], self.dtype)
                self._fill(entry.reshape(-1), stream)
                yield _native(entry)

    def _fill(self, flat: Array, stream: IO[bytes]) -> None:
        import numpy as np

        left = memoryview(flat.view(np.uint8))  # type: ignore[arg-type]
        while len(left):
            read = stream.readinto(left[:STRIDE])  # type: ignore[attr-defined]
            if not read:
                raise ValueError(f"array {self.name!r} is cut off")
            left = left[read:]


def _pass_over(stream: IO[bytes], start: int) -> None:
    while (gap := start - stream.tell()) > STRIDE:
        stream.seek(STRIDE, os.SEEK_CUR)
    stream.read(gap)  # not a seek, after which zipfile no longer checks the sum


def _native(array: Array) -> Array:
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


# --------------------------------------------------------------------------------------- what a file holds


def read_members(path: Path) -> list[Member]:
    """The arrays of a .npz by name, or of a .npy, whose only one is called after the file.

    Raises InputError when the file is damaged, or would have to be unpickled.
    """
    with readable(path), _silently():
        if path.suffix.lower() == ".npz":
            with _archive(path) as archive:
                return [_member(name, path, info, archive) for name, info in _listed(path, archive).items()]
        with open_regular(path) as file:
            return [_described(path.stem, path, None, file, os.fstat(file.fileno()).st_size)]


@contextmanager
def _archive(path: Path) -> Iterator[ZipFile]:
    from zipfile import ZipFile

    with open_regular(path) as file:
        _check_contents(file)
        with ZipFile(file) as archive:
            yield archive


def _check_contents(file: BinaryIO) -> None:
    """Raise ValueError for an archive whose table of contents is too large to be read.

    It ends the file, and says its size (APPNOTE.TXT 4.3.14 and 4.3.16), which is all that zipfile goes by.
    """
    end, tail = file.seek(0, os.SEEK_END), b""
    for reach in (128, 1 << 17):  # there may be a comment of 64 kB behind it
        if b"PK\x05\x06" not in tail:
            file.seek(max(end - reach, 0))
            tail = file.read()
    for mark, at, width in ((b"PK\x05\x06", 12, 4), (b"PK\x06\x06", 40, 8)):
        begin = tail.rfind(mark) + at
        said = int.from_bytes(tail[begin : begin + width], "little") if mark in tail else 0
        if CONTENTS < said < 0xFFFFFFFF:
            raise ValueError(f"its table of contents has {said} bytes, {CONTENTS} are read")
    file.seek(0)


def _listed(path: Path, archive: ZipFile) -> dict[str, ZipInfo]:
    """The archive's members by the name of their array. Raises ValueError where it can't be one of arrays."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if not infos or len(infos) > MEMBERS:
        raise ValueError(f"it holds {len(infos)} arrays, 1 to {MEMBERS} are read")
    for info in infos:
        if info.flag_bits & _ENCRYPTED or info.compress_type not in _COMPRESSIONS:
            raise ValueError(f"{info.filename[:80]!r} is encrypted, or compressed as numpy doesn't")
    unfolded, packed = sum(info.file_size for info in infos), path.stat().st_size
    if unfolded > max(UNFOLDED, RATIO * packed):
        raise ValueError(f"its {packed} bytes would unfold to {unfolded}")
    by_name = {info.filename.removesuffix(".npy"): info for info in infos}
    if len(by_name) < len(infos):
        raise ValueError("it holds two arrays of one name")
    return by_name


def _member(name: str, path: Path, info: ZipInfo, archive: ZipFile) -> Member:
    with archive.open(info) as stream:
        return _described(name, path, info, stream, info.file_size)


def _described(
    name: str, path: Path, info: ZipInfo | None, stream: IO[bytes], size: int, kinds: str = NUMBERS
) -> Member:
    """The array whose `size` bytes are in `stream`, by its header. Raises ValueError where they don't agree."""
    shape, fortran, dtype = _header(stream)
    offset = stream.tell()
    if dtype.kind not in kinds or not dtype.itemsize:
        raise ValueError(f"array {name[:80]!r} holds {str(dtype)[:80]}, not numbers")
    if any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"array {name[:80]!r} has a shape that is none")
    if size - offset != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"array {name[:80]!r} of shape {str(shape)[:80]} has {size - offset} bytes")
    return Member(name, path, info, offset, shape, dtype, fortran)


def _header(stream: IO[bytes]) -> tuple[tuple[Any, ...], bool, Any]:
    """Shape, whether in the order of Fortran, and dtype. Raises ValueError."""
    import numpy as np

    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"an array has format {version}")
    # version 3 is version 2 in UTF-8, which no array of numbers needs
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(stream)
        return tuple(shape), fortran, dtype
    except Exception as error:
        raise ValueError(f"a header is no array's: {first_line(error)[:200]}") from error


@contextmanager
def _silently() -> Iterator[None]:
    """numpy warns of headers that Python 2 wrote, and Python of what is hardly a literal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_whole(size: int) -> None:
    if size > WHOLE:
        raise ValueError(f"it has {size} bytes to be read at once, {WHOLE} are")


@contextmanager
def readable(where: Path | str) -> Iterator[None]:
    """What reading a damaged file raises becomes an InputError that says `where`."""
    try:
        yield
    except (MxError, MemoryError):
        raise
    except Exception as error:
        raise InputError(
            f"can't read {where}: {first_line(error)}", "write it with numpy.savez(path, NAME=array)"
        ) from error
