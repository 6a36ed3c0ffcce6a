"""A zip archive as PyTorch writes it, read so that no two readers can see two different archives in it.

Zip is described twice, by a local header before each member and by the directory at the end, and readers differ in
which they believe, in what they do about two members of one name, and in where they look for the directory. torch
reads with miniz, which ignores case too. Here all of it must agree: members that are stored as they are, one after
the other from the first byte on, then the directory, then nothing.

Source: PKWARE's APPNOTE 6.3.10; `caffe2/serialize/inline_container.cc` of PyTorch.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

from .refused import Damaged, Refused

#: the end of the directory, the same for large archives, and where that is
_END, _END64, _LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")

#: a member in the directory, and the header before it
_ENTRY, _HEADER = struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s5H3L2H")

_UNKNOWN = 0xFFFFFFFF  # the value stands in the extra field of a large archive
_DESCRIBED = 8  # a flag: the sizes follow the data
_ENCRYPTED = 0x2041  # flags: the data, or the directory, is encrypted

#: the most members, and the most bytes of their directory
_MEMBERS, _DIRECTORY = 200_000, 64 << 20

_NAME = re.compile(rb"[\w.+@=, -]+(/[\w.+@=, -]+)+", re.ASCII)


@dataclass(frozen=True)
class Member:
    """Where the bytes of a member lie in the file."""

    offset: int
    size: int


class StoredZip:
    """The members of an archive by name, without the folder that all of them are in.

    Raises Refused where two readers may see two archives, and where anything is compressed or encrypted; Damaged
    for what is no archive.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.members = _members(stream)

    def read(self, name: str, limit: int | None = None) -> bytes:
        """The bytes of a member. Raises Damaged where it is missing, or larger than `limit`."""
        member = self.members.get(name)
        if member is None:
            raise Damaged(f"it holds no {name}")
        if limit is not None and member.size > limit:
            raise Damaged(f"its {name} has {member.size} bytes, more than {limit}")
        return _read(self._stream, member.offset, member.size)


def _members(stream: BinaryIO) -> dict[str, Member]:
    offset, size, count = _directory(stream)
    entries = sorted(_entries(_read(stream, offset, size), count))
    members: dict[str, Member] = {}
    end, folders, seen = 0, set(), set()
    for start, length, name, flags in entries:
        member, end = _behind_header(stream, start, length, name, flags, end)
        if not _NAME.fullmatch(name) or b".." in name.split(b"/") or b"." in name.split(b"/"):
            raise Refused(f"the member {_shown(name)}")
        if name.lower() in seen:
            raise Refused(f"two members of the name {name.decode()}, or that differ in case only")
        seen.add(name.lower())
        folder, _, rest = name.decode().partition("/")
        folders.add(folder)
        members[rest] = member
    if end + _descriptor(stream, end, offset) != offset:
        raise Refused("something between its members and its directory")
    if len(folders) != 1:
        raise Refused(f"members in {len(folders)} folders")
    return members


def _directory(stream: BinaryIO) -> tuple[int, int, int]:
    """Where the directory begins, its size, and how many members it has; it is followed by its end alone."""
    length = stream.seek(0, 2)
    end = length - _END.size
    signature, disk, first, here, count, size, offset, comment = _unpack(_END, stream, end)
    if signature != b"PK\x05\x06" or comment:
        if _ends_before(stream, length):
            raise Refused("something behind the end of its directory")
        raise Damaged("it does not end as an archive does")
    found = disk, first, here, count, size, offset
    if end >= _LOCATOR.size and (locator := _unpack(_LOCATOR, stream, end - _LOCATOR.size))[0] == b"PK\x06\x07":
        end -= _LOCATOR.size + _END64.size
        if locator[1:] != (0, end, 1):
            raise Refused("a directory with two ends")
        signature, rest, _, _, disk, first, here, count, size, offset = _unpack(_END64, stream, end)
        if signature != b"PK\x06\x06" or rest != _END64.size - 12:
            raise Damaged("its directory has no end")
        wide = disk, first, here, count, size, offset
        unsaid = (0xFFFF,) * 4 + (_UNKNOWN,) * 2
        if any(narrow not in (full, none) for narrow, full, none in zip(found, wide, unsaid, strict=True)):
            raise Refused("a directory with two ends")
    if (disk, first) != (0, 0) or here != count or offset + size != end:
        raise Refused("a directory that is not where it says")
    if count > _MEMBERS or size > _DIRECTORY:
        raise Damaged(f"it has {count} members, in a directory of {size} bytes")
    return offset, size, count


def _ends_before(stream: BinaryIO, length: int) -> bool:
    """Whether a directory ends before the file does, for a reader that looks for it further up."""
    start = max(length - _END.size - 0xFFFF, 0)
    tail = _read(stream, start, length - start)
    at = tail.rfind(b"PK\x05\x06", 0, max(len(tail) - _END.size + 4, 0))
    while at >= 0:
        _, _, _, _, _, size, offset, _ = _END.unpack_from(tail, at)
        if start + at - offset - size in (0, _END64.size + _LOCATOR.size):
            return True
        at = tail.rfind(b"PK\x05\x06", 0, at)
    return False


def _entries(directory: bytes, count: int) -> list[tuple[int, int, bytes, int]]:
    """Offset, size, name and flags of every member, as the directory has them."""
    found, at = [], 0
    while at < len(directory):
        if len(directory) - at < _ENTRY.size:
            raise Damaged("its directory is cut short")
        fields = _ENTRY.unpack_from(directory, at)
        signature, _, _, flags, method, _, _, _, packed, size, names, extras, comment, disk, _, _, start = fields
        at += _ENTRY.size
        name, extra = directory[at : at + names], directory[at + names : at + names + extras]
        at += names + extras + comment
        if signature != b"PK\x01\x02" or comment or disk or at > len(directory):
            raise Damaged("its directory is damaged")
        size, packed, start = _wide(extra, size, packed, start)
        if method or packed != size or flags & _ENCRYPTED:
            raise Refused(f"the member {_shown(name)}, which is compressed or encrypted")
        found.append((start, size, name, flags))
    if len(found) != count or not found:
        raise Damaged("its directory does not hold what it says")
    return found


def _wide(extra: bytes, *values: int) -> tuple[int, ...]:
    """The values of an entry, those that have 64 bits taken from its extra field."""
    wide, at = b"", 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            if wide:
                raise Refused("a member of two sizes")
            wide = extra[at + 4 : at + 4 + size]
        at += 4 + size
    if at != len(extra):
        raise Damaged("its directory is damaged")
    result = []
    for value in values:
        if value == _UNKNOWN:
            if len(wide) < 8:
                raise Damaged("a member has no size")
            value, wide = int.from_bytes(wide[:8], "little"), wide[8:]
        result.append(value)
    return tuple(result)


def _behind_header(
    stream: BinaryIO, start: int, size: int, name: bytes, flags: int, end: int
) -> tuple[Member, int]:
    """The member whose header begins at `start`, which must be where the one before ends; and its own end."""
    if start - _descriptor(stream, end, start) != end:
        raise Refused(f"the member {_shown(name)}, which is not where the one before it ends")
    signature, _, own, method, _, _, _, packed, full, names, extras = _unpack(_HEADER, stream, start)
    begin = start + _HEADER.size
    same = signature == b"PK\x03\x04" and own == flags and not method and _read(stream, begin, names) == name
    unsaid = bool(flags & _DESCRIBED) and (packed, full) == (0, 0)
    if not same or not (unsaid or {packed, full} <= {size, _UNKNOWN}):
        raise Refused(f"the member {_shown(name)}, which is described in two ways")
    begin += names + extras
    return Member(begin, size), begin + size


def _descriptor(stream: BinaryIO, end: int, following: int) -> int:
    """How many bytes say again what the member that ends at `end` holds: none, 16, or 24 in a large archive."""
    gap = following - end
    if end and gap in (16, 24) and _read(stream, end, 4) == b"PK\x07\x08":
        return gap
    return 0


def _shown(name: bytes) -> str:
    return repr(name[:80].decode("utf-8", "replace"))


def _unpack(layout: struct.Struct, stream: BinaryIO, offset: int) -> tuple[Any, ...]:
    return layout.unpack(_read(stream, offset, layout.size))


def _read(stream: BinaryIO, offset: int, size: int) -> bytes:
    if offset < 0:
        raise Damaged("it is cut short")
    stream.seek(offset)
    data = stream.read(size)
    if len(data) != size:
        raise Damaged("it is cut short")
    return data
