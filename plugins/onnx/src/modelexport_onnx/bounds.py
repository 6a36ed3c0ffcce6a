"""How many nodes a model has, found before ONNX Runtime opens it: a million of them keep it busy for hours.

The protobuf is read by its own rules (https://protobuf.dev/programming-guides/encoding/), as far as messages lead
to nodes, since neither onnx nor protobuf is needed to run an artifact. Weights are passed over.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from modelexport.errors import RuntimeFailure, first_line

#: nodes that a model may have, those of its functions counted at each call, as they are put in their place
NODES = 100_000

#: graphs within graphs that are followed; ONNX Runtime's own reader follows fewer
_DEPTH = 40

# fields, by their numbers in onnx.proto
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _FUNCTION_NODE, _NODE_ATTRIBUTE = 1, 7, 5
_ATTRIBUTE_GRAPHS = (6, 11)

#: domain, name and overload, which tell functions apart: of a function, and of a node that calls one
_FUNCTION_KEY, _NODE_KEY = (10, 1, 13), (7, 4, 8)

#: the domain of ONNX's own operators, which may be left empty as well
_OWN = b"ai.onnx"

_Bytes = bytes | mmap.mmap


class _Counted(Exception):
    """There are more nodes than a model may have."""


class _Counter:
    """Counts nodes of a model, the calls of its functions included."""

    def __init__(self, data: _Bytes) -> None:
        self.data, self.count = data, 0
        self.functions: dict[tuple[bytes, ...], list[tuple[int, int]]] = {}  # of one key, all count

    def model(self) -> int:
        graphs = []
        for field, start, end in _fields(self.data, 0, len(self.data)):
            if field == _MODEL_GRAPH:
                graphs.append((start, end))
            elif field == _MODEL_FUNCTIONS:
                self.functions.setdefault(self._key(start, end, _FUNCTION_KEY), []).append((start, end))
        for start, end in graphs:
            self._nodes(start, end, _GRAPH_NODE, 0)
        return self.count

    def _nodes(self, start: int, end: int, number: int, depth: int) -> None:
        if depth > _DEPTH:
            raise ValueError(f"graphs and functions are nested deeper than {_DEPTH}")
        for field, first, last in _fields(self.data, start, end):
            if field != number:
                continue
            self.count += 1
            if self.count > NODES:
                raise _Counted
            self._inner(first, last, depth)

    def _inner(self, start: int, end: int, depth: int) -> None:
        """What a node holds, or calls."""
        for field, first, last in _fields(self.data, start, end):
            if field == _NODE_ATTRIBUTE:
                for inner, low, high in _fields(self.data, first, last):
                    if inner in _ATTRIBUTE_GRAPHS:
                        self._nodes(low, high, _GRAPH_NODE, depth + 1)
        for called in self.functions.get(self._key(start, end, _NODE_KEY), ()) if self.functions else ():
            self._nodes(*called, _FUNCTION_NODE, depth + 1)

    def _key(self, start: int, end: int, numbers: tuple[int, int, int]) -> tuple[bytes, ...]:
        """Domain, name and overload, from the fields of these numbers; the last of a number is what holds."""
        texts = dict.fromkeys(numbers, b"")
        for field, first, last in _fields(self.data, start, end):
            if field in texts:
                texts[field] = bytes(self.data[first:last])
        domain, name, overload = texts.values()
        return b"" if domain == _OWN else domain, name, overload


def check(path: Path) -> None:
    """Raise RuntimeFailure for a file with more nodes than ONNX Runtime opens in good time, or a damaged one."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _Counter(data).model()
    except _Counted:
        raise RuntimeFailure(
            f"{path.name} has more than {NODES} nodes, with those of its functions", "split the model"
        ) from None
    except (ValueError, IndexError) as error:
        raise RuntimeFailure(
            f"ONNX Runtime can't load {path.name}: {first_line(error)}", "the file is damaged: export it again"
        ) from error


def _fields(data: _Bytes, place: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of each field of a message that has a length."""
    while place < end:
        key, place = _varint(data, place)
        wire = key & 7
        if wire == 2:
            length, place = _varint(data, place)
            if place + length > end:
                raise ValueError("a message reaches beyond its end")
            yield key >> 3, place, place + length
            place += length
        elif wire == 0:
            _, place = _varint(data, place)
        elif wire in (1, 5):
            place += 8 if wire == 1 else 4
        else:
            raise ValueError(f"no protobuf: a field of wire type {wire}")


def _varint(data: _Bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
