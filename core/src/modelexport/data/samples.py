"""Calibration data: the user's own samples, as the arrays that an artifact takes.

Quantization reads the ranges of activations off them, and is judged on them. They are read one at a time, as often
as wanted, in one order; nothing is kept but where each lies.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .. import usercode
from ..contract.artifacts import Artifact
from ..contract.tensors import Dim, TensorSpec, cast, check_inputs
from ..errors import InputError, OptionError, SourceError
from ..regular import check_path
from ..store.arrays import read_members
from . import sections
from .arrayfile import ArrayFile
from .images import image_inputs
from .readers import ARRAYS, FORMS, ImageFolder, Reader, Row, Yielded
from .tables import SAVED, JsonLines, Lines, SavedDataset, Table
from .texts import load_tokenizer, text_inputs

if TYPE_CHECKING:
    from ..contract.tensors import Array, Arrays


def open_samples(
    artifact: Artifact,
    ref: str | os.PathLike[str] | Callable[..., Any] | Iterable[Any],
    *,
    samples: int = 128,
    seed: int = 0,
    column: str | None = None,
) -> Samples:
    """The samples that `ref` holds for `artifact`, `samples` of them at most, drawn by `seed`.

    The first one is read and checked at once, every other when it is read. `column` names a table's column of
    texts or images, or two of texts, separated by a comma, for pairs. See docs/reference/calibration.md.

    Raises OptionError for options that make no sense, and InputError for data that does not fit the artifact,
    always naming the file and the row.
    """
    _check_numbers(samples, seed)
    rows = _open_rows(artifact, ref, column)
    calibration = Samples(_described(ref), seed, samples, rows, _maker(artifact, rows))
    if next(iter(calibration), None) is None:
        each = calibration.maker.each
        if found := rows.count(samples * each):
            raise InputError(
                f"{calibration.ref} holds {found} rows; the model takes batches of {each}", f"give {each} or more"
            )
        raise _empty(calibration.ref)
    return calibration


def check_reference(
    ref: str | os.PathLike[str] | Callable[..., Any] | Iterable[Any],
    samples: int = 128,
    seed: int = 0,
    column: str | None = None,
) -> None:
    """Find what is wrong with a reference before there is an artifact to fit its samples to.

    A path that is not there, code that can't be imported, a damaged or empty file, an unknown column. Raises as
    `open_samples` does.
    """
    _check_numbers(samples, seed)
    if column is None and isinstance(ref, (str, os.PathLike)) and Path(ref).suffix.lower() in ARRAY_FILES:
        check_path(ref)
        if Path(ref).exists():
            read_members(Path(ref))
            return
    _open_rows(_NO_MODEL, ref, column)


def _check_numbers(samples: int, seed: int) -> None:
    if not 1 <= samples <= MOST:
        many = "too many" if samples > MOST else "none"
        raise OptionError(f"{samples} samples are {many}", f"--samples takes 1 to {MOST}")
    if seed < 0:
        raise OptionError(f"{seed} is no seed", "--seed takes 0 or more")


#: the most samples that are drawn
MOST = 10_000_000

#: stands for the artifact where a reference is looked at for itself
_NO_MODEL = Artifact(Path(), "", "", (), ())

#: files of arrays, by suffix
ARRAY_FILES = (".npz", ".npy")


@dataclass(frozen=True)
class Samples:
    """Samples for an artifact: iterating gives one at a time, by input name, the same ones every time.

    A sample is one row of the batch, or a whole batch where the artifact's batch size is fixed. `notes` holds
    lines that the user should see. `rows`, `maker` and `part` are where the samples come from.
    """

    ref: str
    seed: int
    samples: int
    rows: Reader = field(repr=False)
    maker: Maker = field(repr=False)
    part: tuple[int, ...] | None = field(default=None, repr=False)

    @property
    def notes(self) -> tuple[str, ...]:
        return self.rows.notes

    def __len__(self) -> int:
        if self.part is not None:
            return len(self.part)
        return min(self.samples, self.rows.count(self.samples * self.maker.each) // self.maker.each)

    def __iter__(self) -> Iterator[Arrays]:
        """One sample at a time. Raises InputError naming the row that does not fit."""
        return (sample for _, sample in self._named_samples())

    def batches(self, rows: int, uniform: bool = False) -> Iterator[Arrays]:
        """The samples stacked, up to `rows` rows a batch, or one sample where the artifact takes no more.

        Texts of a batch are padded to its longest; of other samples, only those of one shape are stacked. With
        `uniform` every batch has one shape on every axis but the first: texts are padded to the longest of all.

        Raises InputError when `uniform` can't be kept because two samples differ in shape.
        """
        if rows < 1:
            raise OptionError(f"a batch of {rows} rows is none", "give 1 or more")
        batch = _batch(self.maker.specs)
        most = min(rows, batch.max or rows) if isinstance(batch, Dim) else 1
        if not self.maker.pads:
            return _stacked(self._named_samples(), most, uniform)
        groups = self._groups(max(1, most // self.maker.each) * self.maker.each)
        width = self._longest if uniform else 0
        return (_checked(self.maker.make(group, width), self.maker.specs, group) for group in groups)

    def split(self, share: float) -> tuple[Samples, Samples]:
        """Two disjoint parts, drawn by the seed: the first has `share` of the samples, each has one at least.

        A single sample goes to the first part, and leaves the second empty.
        """
        if not 0 < share < 1:
            raise OptionError(f"a share of {share} splits nothing", "give one between 0 and 1")
        import numpy as np

        whole = self.part if self.part is not None else tuple(range(len(self)))
        count = max(1, min(round(share * len(whole)), len(whole) - 1))
        drawn = np.random.default_rng(self.seed).permutation(len(whole)).tolist()
        parts = (sorted(drawn[:count]), sorted(drawn[count:]))
        one, other = (replace(self, part=tuple(whole[index] for index in part)) for part in parts)
        return one, other

    def fingerprint(self) -> str:
        """The sha256 over the samples: names, dtypes, shapes and bytes of their arrays, in order."""
        import numpy as np

        digest = hashlib.sha256()
        for sample in self:
            for name, array in sample.items():
                digest.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
                digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    @cached_property
    def _chosen(self) -> Sequence[int]:
        """The indices of the rows that make the samples, ascending, `maker.each` of them a sample."""
        import numpy as np

        each = self.maker.each
        chosen: Sequence[int] = range(self.samples * each)
        if not self.rows.sequential:
            there = self.rows.count(self.samples * each)
            count = min(self.samples, there // each) * each
            chosen = np.sort(np.random.default_rng(self.seed).choice(there, count, replace=False)).tolist()
        if self.part is None:
            return chosen
        return [row for sample in self.part for row in chosen[sample * each : (sample + 1) * each]]

    def _groups(self, size: int) -> Iterator[list[Row]]:
        """The chosen rows, `size` at a time; at the end as many whole samples as are left."""
        group: list[Row] = []
        for row in self.rows.read(self._chosen):
            group.append(row)
            if len(group) == size:
                yield group
                group = []
        if whole := group[: len(group) // self.maker.each * self.maker.each]:
            yield whole

    def _named_samples(self) -> Iterator[tuple[str, Arrays]]:
        for group in self._groups(self.maker.each):
            yield _where(group), _checked(self.maker.make(group), self.maker.specs, group)

    @cached_property
    def _longest(self) -> int:
        """The width of the longest sample of texts."""
        return max((next(iter(sample.values())).shape[-1] for sample in self), default=0)


# --------------------------------------------------------------------------------------- kinds of reference


def _open_rows(artifact: Artifact, ref: Any, column: str | None) -> Reader:
    if isinstance(ref, (str, os.PathLike)):
        usercode.check_reference(ref, InputError)
    # Path.exists raises where the name of a function is longer than a path may be
    if isinstance(ref, (str, os.PathLike)) and os.path.exists(path := Path(ref)):  # noqa: PTH110
        suffix = path.suffix.lower()
        if path.is_dir() and any((path / name).is_file() for name in SAVED):
            return SavedDataset.open(path, artifact, column)
        if suffix in (".jsonl", ".csv"):
            return (JsonLines if suffix == ".jsonl" else Table)(path, artifact, column)
    if column is not None:
        raise OptionError(
            f"--column {column} goes with a .jsonl, a .csv or a folder that `datasets` saved", "leave it out"
        )
    if not isinstance(ref, (str, os.PathLike)):
        return Yielded(_described(ref), ref, artifact.inputs)
    text = os.fspath(ref)
    if not os.path.exists(path):  # noqa: PTH110
        return Yielded(text, _imported(text), artifact.inputs)
    if path.is_dir():
        return ImageFolder.open(path)
    if suffix in ARRAY_FILES:
        return ArrayFile.open(path, artifact.inputs)
    if suffix == ".txt":
        return Lines(path, artifact)
    raise InputError(f"can't tell what calibration data {text} is", f"give {FORMS}")


def _imported(text: str) -> Any:
    if not usercode.names_object(text):
        raise InputError(f"no calibration data at {text!r}: there is no such path", f"give {FORMS}")
    try:
        return usercode.import_object(text)
    except SourceError as error:
        raise InputError(f"calibration data {text}: {error.message}", error.hint) from error


def _described(ref: Any) -> str:
    if isinstance(ref, (str, os.PathLike)):
        return os.fspath(ref)
    return getattr(ref, "__qualname__", None) or f"the {type(ref).__name__} given"


def _empty(ref: str) -> InputError:
    return InputError(f"{ref} holds no samples", "give one at least; a hundred or so calibrate well")


# --------------------------------------------------------------------------------------- samples of rows


class Maker(Protocol):
    """Makes the arrays of a sample of `each` rows; one that `pads` takes rows of several samples at once."""

    @property
    def specs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def each(self) -> int: ...
    @property
    def pads(self) -> bool: ...

    def make(self, rows: Sequence[Row], width: int = 0) -> Arrays:
        """The arrays of `rows`, padded to `width` at least. Raises InputError naming the row at fault."""
        ...


@dataclass(frozen=True)
class _Texts:
    artifact: Artifact
    each: int
    pads: bool

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        return self.artifact.inputs

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.artifact)

    def make(self, rows: Sequence[Row], width: int = 0) -> Arrays:
        with _naming(rows):
            return text_inputs(self.artifact, [row.value for row in rows], width, self.tokenizer)


@dataclass(frozen=True)
class _Images:
    artifact: Artifact
    each: int
    pads: bool = False

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        return self.artifact.inputs

    def make(self, rows: Sequence[Row], width: int = 0) -> Arrays:
        with _naming(rows):
            return image_inputs(self.artifact, [row.value for row in rows])


@dataclass(frozen=True)
class _Tensors:
    """Arrays as they are, with a batch axis added where they lack it; with `stacks`, `each` rows are stacked."""

    specs: tuple[TensorSpec, ...]
    each: int
    stacks: bool
    pads: bool = False

    def make(self, rows: Sequence[Row], width: int = 0) -> Arrays:
        import numpy as np

        fitted = [self._fitted(row) for row in rows]
        if not self.stacks:
            ranks = {spec.name: len(spec.shape) for spec in self.specs}
            return {
                name: array[None] if array.ndim == ranks[name] - 1 else array for name, array in fitted[0].items()
            }
        for row, arrays in zip(rows, fitted, strict=True):
            if _shapes(arrays) != _shapes(fitted[0]):
                raise _differ(rows[0].where, fitted[0], row.where, arrays, "rows of one batch need one shape")
        return {name: np.stack([arrays[name] for arrays in fitted]) for name in fitted[0]}

    def _fitted(self, row: Row) -> Arrays:
        with _naming([row]):
            if set(row.value) != {spec.name for spec in self.specs}:
                check_inputs(row.value, self.specs)  # says which name is missing, or unknown
            return {spec.name: fitted(row.value[spec.name], spec) for spec in self.specs}


def _maker(artifact: Artifact, rows: Reader) -> Maker:
    """What makes samples of `rows`; it looks at the first row to tell rows from whole samples."""
    specs = artifact.inputs
    batch = specs[0].shape[0] if specs and specs[0].shape else 1
    each = batch if isinstance(batch, int) else batch.sizes[0]
    if rows.kind == "arrays":
        first = next(rows.read([0]), None) if rows.sequential or rows.count(1) else None
        ranks = {} if first is None else {name: array.ndim for name, array in first.value.items()}
        stacks = (
            each > 1 and _batch(specs) is not None and all(ranks.get(s.name) == len(s.shape) - 1 for s in specs)
        )
        return _Tensors(specs, each if stacks else 1, stacks)
    try:
        if rows.kind == "image":
            sections.section(artifact, "image", "image preprocessing")
            return _Images(artifact, each)
        settings = sections.section(artifact, "text", "tokenizer")
    except InputError as error:
        raise InputError(error.message, ARRAYS) from error
    return _Texts(artifact, each, settings["pad_id"] is not None)


def _batch(specs: Sequence[TensorSpec]) -> int | Dim | None:
    """The batch axis: the first axis, where all inputs share it."""
    firsts = {spec.shape[0] if spec.shape else None for spec in specs}
    return firsts.pop() if len(firsts) == 1 else None


# --------------------------------------------------------------------------------------- checks


def fitted(array: Array, spec: TensorSpec) -> Array:
    """`array` in the dtype of `spec`, where that keeps its values: between integers, or between floats.

    Raises InputError where it doesn't: no such value in the dtype, or integers for an input of floats.
    """
    import numpy as np

    if array.dtype.name == spec.dtype:
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    floats, wants_floats = "float" in array.dtype.name, "float" in spec.dtype
    if (array.dtype.kind == "c") != spec.dtype.startswith("complex") or (wants_floats and not floats):
        raise InputError(
            f"input {spec.name!r} has dtype {array.dtype.name}, the model takes {spec.dtype}",
            f"convert it the way the model's training data was: {spec}",
        )
    if floats:
        _check_finite(spec.name, array)
    with np.errstate(invalid="ignore", over="ignore"):
        converted = cast(array, spec.dtype)
        lost = ~np.isfinite(converted) if wants_floats else converted != array
    if not spec.dtype.startswith("complex") and lost.any():
        raise InputError(f"input {spec.name!r} holds {array[lost][0]}, which is no {spec.dtype}", str(spec))
    return converted


def _check_finite(name: str, array: Array) -> None:
    import numpy as np

    finite = np.isfinite(array)
    if not finite.all():
        kind = "NaN" if np.isnan(array[~finite]).any() else "infinity"
        raise InputError(f"input {name!r} holds {kind}", "leave the row out, or repair it")


def _checked(arrays: Arrays, specs: Sequence[TensorSpec], rows: Sequence[Row]) -> Arrays:
    """`arrays`, made of `rows`, after checks of names, shapes and values."""
    with _naming(rows):
        check_inputs(arrays, specs)
    for index, row in enumerate(rows):
        with _naming([row]):
            for spec in specs:
                array = arrays[spec.name]
                _check_values(spec, array[index] if len(rows) > 1 else array)
    return {spec.name: arrays[spec.name] for spec in specs}


def _check_values(spec: TensorSpec, array: Array) -> None:
    if "float" in spec.dtype or spec.dtype.startswith("complex"):
        _check_finite(spec.name, array)
    elif spec.dtype != "bool" and spec.values is not None:
        low, high = (0, 1) if spec.values == "mask" else spec.values
        outside = (array < low) | (array > high)
        if outside.any():
            raise InputError(
                f"input {spec.name!r} holds {array[outside][0]}, outside {low:.12g}..{high:.12g}",
                "is the data, or the tokenizer, another model's?",
            )


@contextmanager
def _naming(rows: Sequence[Row]) -> Iterator[None]:
    """Errors say which rows they are about, and point to what calibration takes."""
    try:
        yield
    except InputError as error:
        where = _where(rows)
        message = error.message if where in error.message else f"{where}: {error.message}"
        raise InputError(message, ARRAYS if "--input" in error.hint else error.hint) from error


def _where(rows: Sequence[Row]) -> str:
    return rows[0].where if len(rows) == 1 else f"{rows[0].where} to {rows[-1].where}"


# --------------------------------------------------------------------------------------- batches


def _stacked(samples: Iterable[tuple[str, Arrays]], most: int, uniform: bool) -> Iterator[Arrays]:
    """Consecutive samples of one shape, up to `most` rows a batch."""
    first: tuple[str, Arrays] | None = None
    waiting: list[Arrays] = []
    for where, sample in samples:
        first = first or (where, sample)
        if uniform and _shapes(sample, 1) != _shapes(first[1], 1):
            raise _differ(*first, where, sample, "this way to calibrate needs samples of one shape")
        if waiting and (_shapes(sample, 1) != _shapes(waiting[0], 1) or _rows([*waiting, sample]) > most):
            yield _joined(waiting)
            waiting = []
        waiting.append(sample)
    if waiting:
        yield _joined(waiting)


def _joined(samples: Sequence[Arrays]) -> Arrays:
    import numpy as np

    if len(samples) == 1:
        return samples[0]
    return {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]}


def _shapes(arrays: Arrays, start: int = 0) -> dict[str, tuple[int, ...]]:
    return {name: array.shape[start:] for name, array in arrays.items()}


def _rows(samples: Sequence[Arrays]) -> int:
    """Rows of samples together; those without a batch axis count as one each."""
    arrays = [next(iter(sample.values())) for sample in samples]
    return sum(len(array) if array.ndim else 1 for array in arrays)


def _differ(one: str, first: Arrays, other: str, second: Arrays, why: str) -> InputError:
    name = next((name for name in first if first[name].shape != second[name].shape), next(iter(first)))
    return InputError(
        f"{why}, but input {name!r} has shape {first[name].shape} in {one} and {second[name].shape} in {other}",
        "give data of one shape, or another way to calibrate",
    )
