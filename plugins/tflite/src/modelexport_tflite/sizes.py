"""Dynamic dims: LiteRT has none of its own, so a batch is resized, and other dims get a signature for each size.

`plan` says which; what a plan promises is proved on the file before the gate sees it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from modelexport.contract import Dim, TensorSpec, dims_of
from modelexport.errors import ConversionError
from modelexport.toolkit import generate_at

if TYPE_CHECKING:
    from modelexport.contract import Arrays

#: signatures in one file, at most
MOST = 16

#: allowed sizes of a batch that are looked at to convert at, and primes, for where none of them will do
_CANDIDATES = 24
_PRIMES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31)

DEFAULT = "serving_default"


@dataclass(frozen=True)
class Plan:
    """`batch` is resized when the model runs, converted at the size `traced`; `listed` dims have a signature for
    each combination of their sizes."""

    batch: Dim | None
    traced: int
    listed: tuple[Dim, ...]

    @property
    def combinations(self) -> list[dict[str, int]]:
        names = [dim.name for dim in self.listed]
        return [
            dict(zip(names, sizes, strict=True)) for sizes in itertools.product(*(d.sizes for d in self.listed))
        ]

    @property
    def signatures(self) -> dict[str, dict[str, int]]:
        """Signature → the sizes it is for; a model without listed dims has one."""
        return {key(sizes): sizes for sizes in self.combinations}

    def traces(self) -> dict[str, dict[str, int]]:
        """Signature → every size to convert it at."""
        batch = {} if self.batch is None else {self.batch.name: self.traced}
        return {name: {**sizes, **batch} for name, sizes in self.signatures.items()}

    def unbatched(self) -> Plan:
        """The same with the batch listed too. Raises ConversionError where that is too many signatures."""
        return self if self.batch is None else _listed(self.listed, self.batch)


def key(sizes: Mapping[str, int]) -> str:
    return "_".join(f"{name}_{size}" for name, size in sizes.items()) or DEFAULT


def plan(inputs: Sequence[TensorSpec], program: Any) -> Plan:
    """How each dim of `inputs` is kept. Raises ConversionError naming the first that can't be."""
    dims = dims_of(inputs)
    batch = next((dim for dim in dims if _leads(dim, inputs)), None)
    others = tuple(dim for dim in dims if dim != batch)
    found = _listed(others)
    return found if batch is None else replace(found, batch=batch, traced=_traced(batch, others, program))


def _leads(dim: Dim, inputs: Sequence[TensorSpec]) -> bool:
    """Whether a dim is a batch: the first of some inputs, and nowhere else."""
    return not any(size == dim for spec in inputs for size in spec.shape[1:])


def _traced(batch: Dim, others: Sequence[Dim], program: Any) -> int:
    """A size to convert at that can be told from all others: none of them is a multiple of it.

    It is 2 at least, since 1 is folded away, and outside the declared bounds where it must be.
    """
    taken = {size for shape in _shapes(program) for size in shape if isinstance(size, int) and size > 1}
    taken |= {size for dim in others for size in dim.sizes}
    allowed = [size for size in batch.sizes[:_CANDIDATES] if size > 1]
    beyond = [batch.multiple * prime for prime in _PRIMES]
    clear = (size for size in (*allowed, *beyond) if not any(other % size == 0 for other in taken))
    return next(clear, (allowed or [1])[-1])


def _shapes(program: Any) -> list[Any]:
    values = (node.meta.get("val") for node in program.graph.nodes)
    return [value.shape for value in values if hasattr(value, "shape")]


def _listed(dims: tuple[Dim, ...], batch: Dim | None = None) -> Plan:
    every = (*dims, *([batch] if batch else []))
    count = math.prod(len(dim.sizes) if dim.max is not None else MOST + 1 for dim in every)
    if count > MOST:
        worst = batch or max(every, key=lambda dim: len(dim.sizes) if dim.max is not None else 2**62)
        raise too_many(worst, batch is not None)
    return Plan(None, 0, every)


def too_many(dim: Dim, resized: bool) -> ConversionError:
    size = dim.sizes[0] if resized else _example(dim)
    why = "the model does not take another batch once converted, and" if resized else "LiteRT has no dynamic dims:"
    step = 16 if dim.max is None or dim.max >= 64 else 4
    return ConversionError(
        f"dimension {dim} can't stay dynamic: {why} {MOST} sizes are the most that one file holds",
        f"fix it, as --dim tflite.{dim.name}={size}, or give it few sizes, "
        f"as --dim tflite.{dim.name}={step}..{step * 4}/{step}",
    )


def _example(dim: Dim) -> int:
    return next((size for size in (128, 64, 32, 16) if dim.allows(size)), dim.sizes[0])


# --------------------------------------------------------------------------------------- inputs


def sample(inputs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> Arrays:
    """Inputs to convert with: integers that declare no values are 0 or 1."""
    known = [
        replace(spec, values=(0, 1)) if spec.values is None and "int" in spec.dtype else spec for spec in inputs
    ]
    return generate_at(known, sizes)


def proofs(found: Plan) -> list[dict[str, int]]:
    """Sizes at which a resized batch is compared with the program: its smallest, and two others."""
    batch = found.batch
    assert batch is not None
    few = [size for size in batch.sizes[:9] if size != found.traced]
    chosen = dict.fromkeys([few[0], few[len(few) // 2], few[-1]] if few else [found.traced])
    listed = found.combinations[-1]
    return [{**listed, batch.name: size} for size in chosen]
