"""What a .pte must be before its runtime reads it: a flatbuffer whose texts are UTF-8.

The runtime checks the flatbuffer itself (`InternalConsistency`), and prints what is wrong with a program through
Python's sys.stderr. Bytes that are no UTF-8 in such a message take the process down, in a destructor of pybind11
(`iostream.h`). So whatever it may quote is looked at here: the file's identifier, and every text in it and in the
graphs that XNNPACK is handed.

The tables are those of ExecuTorch's `schema/program.fbs` and `backends/xnnpack/serialization/schema.fbs`; a table
of a flatbuffer begins with the way back to the list of where its fields are (https://flatbuffers.dev/internals/).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelexport.errors import RuntimeFailure, first_line

#: what every file has at its fifth byte
IDENTIFIER = b"ET12"

_TEXT = "text"

#: a value's kind, in the union of an EValue, → its table
_VALUES: Mapping[int, Mapping[int, Any]] = {5: {9: {1: _TEXT}}, 6: {0: _TEXT}}

#: tables by the number of each field that leads to a text; [table] is a vector of them, _VALUES a union
_PLAN: Mapping[int, Any] = {
    0: _TEXT,
    1: {0: _TEXT, 1: _TEXT},
    2: [_VALUES],
    6: [{0: _TEXT, 1: _TEXT}],
    7: [{0: _TEXT, 2: [{0: _TEXT}]}],
}
_PROGRAM: Mapping[int, Any] = {1: [_PLAN], 7: [{0: _TEXT}]}
_XNNPACK: Mapping[int, Any] = {0: _TEXT, 8: [{2: _TEXT}]}

#: what a graph for XNNPACK begins with, and the flatbuffer in it
_XNNPACK_MARK, _XNNPACK_IDENTIFIERS = b"XH00", (b"XN00", b"XN01")

_Bytes = bytes | mmap.mmap


def check(path: Path) -> None:
    """Raise RuntimeFailure where the file at `path` is no ExecuTorch program, or one that is damaged."""
    try:
        if not path.stat().st_size:
            raise ValueError("it is empty")
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[4:8] != IDENTIFIER:
                raise RuntimeFailure(
                    f"{path.name} is no ExecuTorch program: it lacks the mark ET12 at its fifth byte",
                    "copy the file again, or export it with this version of ExecuTorch",
                )
            program = _follow(data, 0)
            _read(_texts(data, program, _PROGRAM))
            for graph in _graphs(data, program):
                _read(_texts(graph, _follow(graph, 0), _XNNPACK))
    except (struct.error, ValueError, IndexError) as error:
        raise RuntimeFailure(
            f"{path.name} is damaged: {first_line(error)}", "copy the file again, or export it again"
        ) from error


def _read(texts: Iterator[bytes]) -> None:
    for text in texts:
        text.decode("utf-8")


def _graphs(data: _Bytes, program: int) -> Iterator[bytes]:
    """The flatbuffers of the graphs that the program hands to XNNPACK, without their weights."""
    for plan in _each(data, program, 1):
        for delegate in _each(data, plan, 7):
            place = _field(data, delegate, 0)
            if place and next(_below(data, _follow(data, place), _TEXT)) == b"XnnpackBackend":
                yield _graph(data, _processed(data, program, delegate))


def _processed(data: _Bytes, program: int, delegate: int) -> int:
    """Where what a delegate is handed begins: in the flatbuffer, or in a segment behind it."""
    reference = _follow(data, _field(data, delegate, 1))
    location, index = (_field(data, reference, number) for number in (0, 1))
    number = int(struct.unpack_from("<I", data, index)[0]) if index else 0
    if not location or not data[location]:
        inline = _each(data, program, 2)[number]
        return _follow(data, _field(data, inline, 0)) + 4
    segment = _field(data, _each(data, program, 4)[number], 0)
    offset = struct.unpack_from("<Q", data, segment)[0] if segment else 0
    return int(struct.unpack_from("<Q", data, 24)[0] + offset)


def _graph(data: _Bytes, start: int) -> bytes:
    """The flatbuffer of a graph. Raises ValueError where it lacks its marks."""
    if data[start + 4 : start + 8] == _XNNPACK_MARK:
        offset, size = struct.unpack_from("<II", data, start + 10)
        graph = bytes(data[start + offset : start + offset + size])
    else:
        graph = bytes(data[start:])
    if graph[4:8] not in _XNNPACK_IDENTIFIERS:
        raise ValueError(f"the graph for XNNPACK at byte {start} lacks its marks")
    return graph


def _each(data: _Bytes, table: int, number: int) -> list[int]:
    """The tables that a field lists."""
    place = _field(data, table, number)
    return _vector(data, _follow(data, place)) if place else []


def _texts(data: _Bytes, table: int, fields: Mapping[int, Any]) -> Iterator[bytes]:
    """Every text in a table and in those below it."""
    for number, kind in fields.items():
        place = _field(data, table, number)
        if place:
            yield from _below(data, _follow(data, place), kind)


def _below(data: _Bytes, place: int, kind: Any) -> Iterator[bytes]:
    if kind is _TEXT:
        yield data[place + 4 : place + 4 + _count(data, place, 1)]
    elif isinstance(kind, list):
        (inner,) = kind
        for table in _vector(data, place):
            yield from _value(data, table) if inner is _VALUES else _texts(data, table, inner)
    else:
        yield from _texts(data, place, kind)


def _value(data: _Bytes, table: int) -> Iterator[bytes]:
    """The texts of an EValue, whose first field says what the second one is."""
    kind, place = _field(data, table, 0), _field(data, table, 1)
    fields = _VALUES.get(data[kind]) if kind else None
    if fields and place:
        yield from _texts(data, _follow(data, place), fields)


# --------------------------------------------------------------------------------------- flatbuffers


def _follow(data: _Bytes, place: int) -> int:
    """Where the offset at `place` leads to."""
    target = place + int(struct.unpack_from("<I", data, place)[0])
    if target + 4 > len(data):
        raise ValueError(f"the offset at byte {place} leads out of the file")
    return target


def _field(data: _Bytes, table: int, number: int) -> int:
    """The place of a table's field; 0 where it has none."""
    fields = table - struct.unpack_from("<i", data, table)[0]
    if not 0 <= fields <= len(data) - 4:
        raise ValueError(f"the table at byte {table} begins outside the file")
    entry = 4 + 2 * number
    if entry + 2 > struct.unpack_from("<H", data, fields)[0]:
        return 0
    offset = struct.unpack_from("<H", data, fields + entry)[0]
    return table + offset if offset else 0


def _vector(data: _Bytes, place: int) -> list[int]:
    """The tables in the vector at `place`."""
    return [_follow(data, item) for item in range(place + 4, place + 4 + 4 * _count(data, place, 4), 4)]


def _count(data: _Bytes, place: int, size: int) -> int:
    """The length of a vector whose items have `size` bytes, which lie in the file."""
    count = int(struct.unpack_from("<I", data, place)[0])
    if place + 4 + count * size > len(data):
        raise ValueError(f"{count} items at byte {place} reach beyond its end")
    return count
