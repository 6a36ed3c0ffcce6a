"""Dims without an upper end, for formats that must know one: what they are bounded to, and how that is said."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..contract.tensors import Dim, TensorSpec, dims_of
from ..errors import ArtifactError, OptionError

#: the largest size of a batch, and of another dim, declared without one
BATCH, LENGTH = 32, 256


def batches(specs: Sequence[TensorSpec]) -> frozenset[str]:
    """The names of dims that come first in an input: batches."""
    return frozenset(s.shape[0].name for s in specs if s.shape and isinstance(s.shape[0], Dim))


def bounds(specs: Sequence[TensorSpec], bound: int | None) -> dict[str, int]:
    """Open dim → the largest size it gets: `bound`, or what is usual for a batch or a length, and 8 × its least.

    Multiples of the dim's step. Raises OptionError where `bound` is below a dim's least size.

    >>> bounds([TensorSpec.parse("x:float32[n,seq=16../16,t=1..9]")], None)
    {'n': 32, 'seq': 256}
    """
    largest, first = {}, batches(specs)
    for dim in dims_of(specs):
        if dim.max is not None:
            continue
        usual = max(BATCH if dim.name in first else LENGTH, 8 * dim.min)
        largest[dim.name] = (usual if bound is None else bound) // dim.multiple * dim.multiple
        if largest[dim.name] < dim.min:
            raise OptionError(
                f"dim {dim.name} begins at {dim.min}, above bound={bound}",
                f"give a larger -k bound=, or --dim {dim.name}=LOW..HIGH",
            )
    return largest


def bounded(spec: TensorSpec, largest: Mapping[str, int]) -> TensorSpec:
    """`spec` with its open dims bounded by what `largest` says of them.

    Raises ArtifactError for a bound that leaves a dim no size: what an artifact says of itself can't be so.
    """

    def limit(size: int | Dim) -> int | Dim:
        if not (isinstance(size, Dim) and size.max is None and size.name in largest):
            return size
        limited = replace(size, max=largest[size.name])
        if not limited.sizes:
            raise ArtifactError(f"no size of dim {size} is {limited.max} at most", "export the model again")
        return limited

    return replace(spec, shape=tuple(map(limit, spec.shape)))


def bound_notes(largest: Mapping[str, int], why: str) -> list[str]:
    """A note for each dim that was bounded; `why` says what wants an end ("memory is planned for one")."""
    return [f"{name} has no upper bound, and {why}: it is {size} (-k bound=…)" for name, size in largest.items()]


def size_combinations(dims: Sequence[Dim], most: int) -> list[dict[str, int]] | None:
    """Every combination of the dims' sizes, for formats that list them; None where there are more than `most`.

    >>> size_combinations([Dim("n", 1, 2), Dim("t", 8, 16, 8)], most=4)
    [{'n': 1, 't': 8}, {'n': 1, 't': 16}, {'n': 2, 't': 8}, {'n': 2, 't': 16}]
    """
    if any(dim.max is None for dim in dims) or math.prod(len(dim.sizes) for dim in dims) > most:
        return None
    names = [dim.name for dim in dims]
    return [dict(zip(names, sizes, strict=True)) for sizes in itertools.product(*(dim.sizes for dim in dims))]
