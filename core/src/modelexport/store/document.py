"""The records of manifest.json, as it says them: the schema that everything in it is read by.

Artifact and its parts say the same in other words: a dim of theirs has its name, a budget is one record. See
docs/reference/manifest.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from ..contract.artifacts import FileEntry, StandIn, Step
from ..contract.compiled import CompiledLayer
from ..contract.parity import PRECISIONS, Verified
from ..contract.processing import Processing
from ..contract.tensors import DTYPES
from ..typed import Check, Count, Format, InsidePath, Like, Mismatch, Name, Positive

#: what the manifest keeps among a target's own details, and an artifact in fields of its own
SAID = ("notes", "layers", "quantization", "stands_in")

#: the most axes of a tensor, as in NumPy
RANK = 64


def _takes_a_size(dim: Bounds) -> bool:
    return dim.max is None or -(-dim.min // dim.multiple) * dim.multiple <= dim.max


def _differ(named: Sequence[Tensor]) -> bool:
    return len({tensor.name for tensor in named}) == len(named)


def _in_order(pair: tuple[float, float]) -> bool:
    return pair[0] <= pair[1]


def _are_files(files: Sequence[FileEntry]) -> bool:
    """Whether no two are one where case does not count, and the manifest isn't one of them."""
    paths = {file.path.casefold() for file in files} - {"manifest.json"}
    return len(paths) == len(files)


DType = Annotated[str, Check(f"one of {', '.join(DTYPES)}", DTYPES.__contains__)]
Precision = Annotated[str, Check(f"one of {', '.join(PRECISIONS)}", PRECISIONS.__contains__)]
Shape = Annotated[tuple[Count | Name, ...], Check(f"at most {RANK} axes", lambda shape: len(shape) <= RANK)]
Span = Annotated[tuple[float, float], Check("low before high", _in_order)]


@dataclass(frozen=True)
class Bounds:
    """The sizes that a dim may take."""

    min: Count
    max: Positive | None
    multiple: Positive


@dataclass(frozen=True)
class Tensor:
    """An input or an output; its shape holds sizes, and names of dims."""

    name: Name
    dtype: DType
    shape: Shape
    values: Span | Literal["mask"] | None = None


@dataclass(frozen=True)
class FlatComparison:
    """An output's worst comparison, with the budget that it was held against. See `Comparison`, `Budget`.

    A figure that is no finite number is None.
    """

    name: str
    ok: bool
    max_abs: float | None
    max_rel: float | None
    cosine: float | None
    top1: float | None
    used: float | None
    problem: str
    atol: float
    rtol: float
    noise: float
    min_cosine: float
    case: str
    min_equal: float = 1.0  # manifests of before there were budgets for integers lack it


@dataclass(frozen=True)
class Gate:
    """What the gate found, but for its verdict."""

    reason: str
    outputs: tuple[FlatComparison, ...]
    cases: tuple[str, ...]
    skipped: Mapping[str, str]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class FlatParity(Gate):
    """The same, with its verdict."""

    verified: Verified


Tensors = Annotated[tuple[Tensor, ...], Check("names that differ", _differ)]


@dataclass(frozen=True)
class Said:
    """What every target may say among its details; the report of a quantization has a reader of its own."""

    notes: tuple[str, ...] = ()
    layers: tuple[CompiledLayer, ...] = ()
    quantization: Any = None
    stands_in: StandIn | None = None


@dataclass(frozen=True)
class Document:
    """All of manifest.json."""

    schema: Positive
    format: Format
    entry: InsidePath
    precision: Precision
    dims: Mapping[str, Annotated[Bounds, Check("a size between min and max", _takes_a_size)]]
    inputs: Tensors
    outputs: Tensors
    verified: Verified
    parity: Gate
    lineage: tuple[Step, ...]
    processing: Annotated[Mapping[str, Any], Like(Processing)]
    details: Mapping[str, Any]
    files: Annotated[tuple[FileEntry, ...], Check("paths that differ in more than case", _are_files)]

    def __post_init__(self) -> None:
        for side in ("inputs", "outputs"):
            for number, tensor in enumerate(getattr(self, side)):
                for axis, size in enumerate(tensor.shape):
                    if isinstance(size, str) and size not in self.dims:
                        raise Mismatch("the name of one of dims", repr(size)).under(
                            f"{side}[{number}].shape[{axis}]"
                        )
