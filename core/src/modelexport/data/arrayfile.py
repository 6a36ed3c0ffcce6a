"""Files of arrays as calibration data: .npz and .npy, read an entry at a time, so that they may exceed memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..contract.tensors import TensorSpec
from ..errors import InputError
from ..store.arrays import Member, read_members, readable
from .readers import ARRAYS, Kind, Row


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
