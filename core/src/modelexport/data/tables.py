"""Tables as calibration data: lines of text, objects or cells, and folders that `datasets` saved.

Their columns become texts, pairs of texts, images, or arrays for the inputs that they are named after.
"""

from __future__ import annotations

import array
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import errors
from ..contract.artifacts import Artifact
from ..contract.tensors import TensorSpec
from ..errors import InputError
from ..jsontext import parse_json, read_json
from ..plugins import known
from ..plugins.installed import importable
from ..regular import check_regular, files_below, open_regular
from .numbers import array_of
from .readers import Kind, Row, shown

if TYPE_CHECKING:
    from ..contract.tensors import Array

#: files that `datasets` leaves in a folder it saves
SAVED = ("dataset_dict.json", "state.json", "dataset_info.json")

#: the most bytes of a row, and the most rows of a file that samples are drawn from; the bytes read at once
ROW, ROWS, CHUNK = 8 << 20, 10_000_000, 1 << 16


# --------------------------------------------------------------------------------------- columns


@dataclass(frozen=True)
class Columns:
    """Which columns of a table make the rows: `names` has one, two for pairs of texts, or every input's."""

    kind: Kind
    names: tuple[str, ...]


def choose_columns(there: Mapping[str, Kind], artifact: Artifact, column: str | None, where: str) -> Columns:
    """Pick columns out of those `there`, each with what it holds (anything that is no text or image: arrays)."""
    listed = f"its columns: {', '.join(there)}"
    if column is not None:
        names = (column,) if column in there else tuple(name.strip() for name in column.split(","))
        if unknown := [name for name in names if name not in there]:
            raise InputError(f"{where} has no column {unknown[0]!r}", listed)
        if len(names) > 2:
            raise InputError(f"{where}: {len(names)} columns make no text", "give one, or two for pairs")
        image = len(names) == 1 and there[names[0]] == "image"
        return Columns("image" if image else "text", names)
    inputs = tuple(spec.name for spec in artifact.inputs)
    if all(there.get(name) == "arrays" for name in inputs):
        return Columns("arrays", inputs)
    texts, images = ([name for name, kind in there.items() if kind == wanted] for wanted in ("text", "image"))
    if len(images) == 1 and ("image" in artifact.processing or not texts):
        return Columns("image", (images[0],))
    if "text" in there:
        return Columns("text", ("text",))
    if len(texts) == 1:
        return Columns("text", (texts[0],))
    what = f"which column of {where} to take is unclear" if texts or images else f"{where} has no column of texts"
    raise InputError(
        f"{what}; {listed}",
        f"give --column NAME (NAME,NAME for pairs), or columns named like the inputs: {', '.join(inputs)}",
    )


def pick(record: Mapping[str, Any], columns: Columns, specs: Sequence[TensorSpec], where: str) -> Row:
    """The row that `columns` of one record make. Raises InputError naming the column that doesn't fit."""
    if missing := [name for name in columns.names if name not in record]:
        raise InputError(f"{where}: column {missing[0]!r} is missing", f"it has {', '.join(record) or 'none'}")
    if columns.kind == "arrays":
        by_name = {spec.name: spec for spec in specs}
        return Row(where, {name: _numbers(record[name], by_name[name], where) for name in columns.names})
    values = tuple(record[name] for name in columns.names)
    if columns.kind == "image":
        if values[0] is None:
            raise InputError(f"{where}: column {columns.names[0]!r} holds no image", "leave the row out")
        return Row(where, values[0])
    for name, value in zip(columns.names, values, strict=True):
        if not isinstance(value, str):
            raise InputError(
                f"{where}: column {name!r} holds {shown(value)}, not text", "leave the row out, or give --column"
            )
    return Row(where, values[0] if len(values) == 1 else values)


def _numbers(value: Any, spec: TensorSpec, where: str) -> Array:
    """Nested lists, or one number, as an array; whole numbers are numbers too where the input holds floats."""
    import numpy as np

    try:
        array = array_of(_cell(value) if isinstance(value, str) else value)
    except ValueError as error:
        raise InputError(
            f"{where}: column {spec.name!r} holds {shown(value)}, not numbers: {error}", str(spec)
        ) from error
    if not array.size:
        raise InputError(f"{where}: column {spec.name!r} holds {shown(value)}, not numbers", str(spec))
    if not array.ndim:
        array = array.reshape((1,) * (len(spec.shape) - 1))
    return array.astype(np.float64) if "float" in spec.dtype and array.dtype.kind in "iu" else array


# --------------------------------------------------------------------------------------- lines


class Lines:
    """A .txt: one text a line. Of the whole file, only where each row begins is kept."""

    sequential = False
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, artifact: Artifact, column: str | None = None) -> None:
        self.path = path
        self.specs = artifact.inputs
        self.starts, self.numbers = array.array("Q"), array.array("Q")
        with open_regular(path) as stream:
            if stream.read(3) != b"\xef\xbb\xbf":  # the mark that some editors put before UTF-8
                stream.seek(0)
            rows = self.scan(stream)
            for start, number in islice(rows, ROWS):
                self.starts.append(start)
                self.numbers.append(number)
            if next(rows, None) is not None:
                self.notes = (f"{path} has more than {ROWS} rows: samples are drawn from the first {ROWS}",)
            if not self.starts:
                raise InputError(f"{path} holds no samples", "it is empty")
            self.columns = choose_columns(self.kinds(self.record(stream, 0)), artifact, column, str(path))

    @property
    def kind(self) -> Kind:
        return self.columns.kind

    def count(self, most: int) -> int:
        return len(self.starts)

    def read(self, indices: Sequence[int]) -> Iterator[Row]:
        with open_regular(self.path) as stream:
            for index in indices:
                yield pick(self.record(stream, index), self.columns, self.specs, self.where(self.numbers[index]))

    def where(self, number: int) -> str:
        return f"line {number} of {self.path}"

    def scan(self, stream: BinaryIO) -> Iterator[tuple[int, int]]:
        """Where each row begins: the byte, and the number of the line."""
        start, number, rest = stream.tell(), 0, b""
        while chunk := stream.read(CHUNK):  # a line at a time would have no bounds, or be slower
            *lines, rest = (rest + chunk).split(b"\n")
            if len(lines[0] if lines else rest) > ROW:
                raise self.too_long(number + 1)
            for number, line in enumerate(lines, number + 1):  # noqa: B020
                if line.strip():
                    yield start, number
                start += len(line) + 1
        if rest.strip():
            yield start, number + 1

    def record(self, stream: BinaryIO, index: int) -> dict[str, Any]:
        """The row at `index`, by column."""
        stream.seek(self.starts[index])
        return {"text": self.decoded(stream.readline(ROW), self.numbers[index]).rstrip("\r\n")}

    def kinds(self, record: Mapping[str, Any]) -> dict[str, Kind]:
        """What each column holds, judged by one row."""
        return {name: "text" if isinstance(value, str) else "arrays" for name, value in record.items()}

    def decoded(self, line: bytes, number: int) -> str:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{self.where(number)} is not UTF-8: {error.reason}", "save it as UTF-8") from error
        if "\0" in text:
            raise InputError(f"{self.where(number)} holds NUL, which no text does", "save it as UTF-8")
        return text

    def too_long(self, number: int) -> InputError:
        size = self.path.stat().st_size
        return InputError(
            f"{self.where(number)} is longer than the {ROW} bytes that are read of a row (the file has {size})",
            "put a row on a line of its own, and large arrays into a .npz",
        )


class JsonLines(Lines):
    """A .jsonl: one object a line."""

    def record(self, stream: BinaryIO, index: int) -> dict[str, Any]:
        text, where = super().record(stream, index)["text"], self.where(self.numbers[index])
        value = parse_json(text, where, hint="write one object a line")
        if not isinstance(value, dict):
            raise InputError(f"{where} holds {shown(value)}, not an object", 'write {"text": "…"}')
        return value


class Table(Lines):
    """A .csv with a header; a cell may hold line breaks."""

    def scan(self, stream: BinaryIO) -> Iterator[tuple[int, int]]:
        records = (record for record in self._records(stream, 0) if record[2])
        _, _, self.header = next(records, (0, 0, []))
        yield from ((start, number) for start, number, _ in records)

    def record(self, stream: BinaryIO, index: int) -> dict[str, Any]:
        stream.seek(self.starts[index])
        _, number, cells = next(self._records(stream, self.numbers[index] - 1))
        if len(cells) != len(self.header):
            raise InputError(
                f"{self.where(number)} has {len(cells)} cells, the header has {len(self.header)}",
                "put cells that hold commas into double quotes",
            )
        return dict(zip(self.header, cells, strict=True))

    def kinds(self, record: Mapping[str, Any]) -> dict[str, Kind]:
        return {name: "text" if isinstance(_cell(value), str) else "arrays" for name, value in record.items()}

    def _records(self, stream: BinaryIO, before: int) -> Iterator[tuple[int, int, list[str]]]:
        """Byte, line and cells of every record from here on; `before` lines lie before it."""
        at, number = stream.tell(), before + 1

        def lines() -> Iterator[str]:
            nonlocal at
            for count, line in enumerate(_lines(stream), before + 1):
                at += len(line)
                if at - start > ROW:
                    raise self.too_long(number)
                yield self.decoded(line, count)

        start = at
        reader = csv.reader(lines(), strict=True)
        try:
            for cells in reader:
                yield start, number, cells
                start, number = at, before + reader.line_num + 1
        except csv.Error as error:
            raise InputError(f"{self.where(number)} is no CSV: {error}", "separate cells by commas") from error


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of one that is longer than a row may be, the beginning."""
    return iter(partial(stream.readline, ROW + 1), b"")


def _cell(text: str) -> Any:
    """What a cell holds as JSON or as a number, where it does; else its text."""
    for read in (json.loads, float):
        try:
            return read(text)
        except (ValueError, RecursionError):
            continue
    return text


# --------------------------------------------------------------------------------------- datasets


@dataclass(frozen=True)
class SavedDataset:
    """A folder that the package `datasets` wrote with save_to_disk."""

    name: str
    data: Any
    columns: Columns
    specs: tuple[TensorSpec, ...]
    notes: tuple[str, ...] = ()
    sequential: bool = False

    @classmethod
    def open(cls, path: Path, artifact: Artifact, column: str | None) -> SavedDataset:
        if not importable("datasets"):
            raise InputError(
                f"{path} was saved by `datasets`: reading it needs datasets", known.MODULES["datasets"]
            )
        import datasets

        _check_saved(path)
        try:
            data = datasets.load_from_disk(str(path))
        except Exception as error:
            raise InputError(
                f"can't read {path}: {errors.first_line(error)}", "save it with save_to_disk"
            ) from error
        name = str(path)
        notes: tuple[str, ...] = ()
        if isinstance(data, dict):
            split = _split(data, path)
            name = f"{path} ({split})"
            if split != "train" and len(data) > 1:
                notes = (f"{path} has no split train: {split} is taken, the largest of {', '.join(data)}",)
            data = data[split]
        if not len(data):
            raise InputError(f"{name} holds no samples", "it is empty")
        kinds = {column: _feature_kind(feature) for column, feature in data.features.items()}
        for image in (column for column, kind in kinds.items() if kind == "image"):
            data = data.cast_column(image, datasets.Image(decode=False))  # opened as any other image is
        return cls(
            name, data.with_format(None), choose_columns(kinds, artifact, column, name), artifact.inputs, notes
        )

    @property
    def kind(self) -> Kind:
        return self.columns.kind

    def count(self, most: int) -> int:
        return len(self.data)

    def read(self, indices: Sequence[int]) -> Iterator[Row]:
        wanted = self.data.select_columns(list(self.columns.names))  # other columns need not be decoded
        for index in indices:
            where = f"row {index} of {self.name}"
            try:
                record = wanted[int(index)]
            except Exception as error:
                raise InputError(
                    f"can't read {where}: {errors.first_line(error)}", "the data is damaged"
                ) from error
            yield pick(record, self.columns, self.specs, where)


def _check_saved(folder: Path) -> None:
    """Raise InputError for what `datasets` would wait for, or open outside the folder."""
    for entry in files_below(folder):
        check_regular(Path(entry.path))
        if entry.name == "state.json":
            state = read_json(Path(entry.path), hint="save it with save_to_disk")
            files = state.get("_data_files") if isinstance(state, dict) else None
            names = [file.get("filename", "") for file in files or () if isinstance(file, dict)]
            if outside := [name for name in names if Path(str(name)).name != name]:
                raise InputError(f"{entry.path} names {shown(outside[0])}, outside its folder", "don't use it")


def _split(splits: Mapping[str, Any], path: Path) -> str:
    if not splits:
        raise InputError(f"{path} holds no samples", "it has no splits")
    return "train" if "train" in splits else max(splits, key=lambda name: len(splits[name]))


def _feature_kind(feature: Any) -> Kind:
    if type(feature).__name__ == "Image":
        return "image"
    return "text" if getattr(feature, "dtype", "") in ("string", "large_string") else "arrays"
