"""Dynamic dims: LiteRT has none of its own, so a batch is resized, and other dims get a signature for each size.

`plan` says which; what a plan promises of the batch is proved on the file, in `export`, before the gate sees it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from modelexport.contract import Dim, TensorSpec, dims_of
from modelexport.errors import ConversionError
from modelexport.toolkit import batches, generate_at, size_combinations

from .files import DEFAULT_SIGNATURE

if TYPE_CHECKING:
    from modelexport.contract import Arrays

#: signatures in one file, at most
MOST = 16

#: allowed sizes of a batch that are looked at to convert at, and primes, for where none of them will do
_CANDIDATES = 24
_PRIMES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31)


@dataclass(frozen=True)
class Plan:
    """How the dims of a model are kept.

    `listed` dims have a signature for each of `combinations` of their sizes: one, of no sizes, where there are no
    such dims. `batch` is resized when the model runs, and converted at the size `traced`; None where no dim is.
    """

    listed: tuple[Dim, ...]
    combinations: tuple[Mapping[str, int], ...]
    batch: Dim | None = None
    traced: int = 0

    @property
    def signatures(self) -> dict[str, Mapping[str, int]]:
        """Signature → the sizes that it is for."""
        return {_key(sizes): sizes for sizes in self.combinations}

    def traces(self) -> dict[str, dict[str, int]]:
        """Signature → every size to convert it at."""
        batch = {} if self.batch is None else {self.batch.name: self.traced}
        return {key: {**sizes, **batch} for key, sizes in self.signatures.items()}

    def unbatched(self) -> Plan:
        """The same with the batch listed too. Raises ConversionError where that is too many signatures."""
        return self if self.batch is None else _listed(self.listed, self.batch)

    def proofs(self) -> list[dict[str, int]]:
        """Sizes at which a resized batch is compared with the program: its smallest, and two others."""
        assert self.batch is not None
        few = [size for size in self.batch.sizes[:9] if size != self.traced]
        chosen = dict.fromkeys([few[0], few[len(few) // 2], few[-1]] if few else [self.traced])
        return [{**self.combinations[-1], self.batch.name: size} for size in chosen]


def _key(sizes: Mapping[str, int]) -> str:
    return "_".join(f"{name}_{size}" for name, size in sizes.items()) or DEFAULT_SIGNATURE


def plan(inputs: Sequence[TensorSpec], program: Any) -> Plan:
    """How each dim of `inputs` is kept. Raises ConversionError naming the first that can't be."""
    batch = _batch(inputs)
    others = tuple(dim for dim in dims_of(inputs) if dim != batch)
    listed = _listed(others)
    return listed if batch is None else replace(listed, batch=batch, traced=_traced(batch, others, program))


def _batch(inputs: Sequence[TensorSpec]) -> Dim | None:
    """The dim that comes first in some inputs, and nowhere else."""
    inner = {size for spec in inputs for size in spec.shape[1:]}
    leading = batches(inputs)
    return next((dim for dim in dims_of(inputs) if dim.name in leading and dim not in inner), None)


def _traced(batch: Dim, others: Sequence[Dim], program: Any) -> int:
    """A size to convert at that can be told from all others: none of them is a multiple of it.

    It is 2 at least, since 1 is folded away, and outside the declared bounds where it must be.
    """
    elsewhere = {size for shape in _shapes(program) for size in shape if isinstance(size, int) and size > 1}
    elsewhere |= {size for dim in others for size in dim.sizes}
    allowed = [size for size in batch.sizes[:_CANDIDATES] if size > 1]
    beyond = [batch.multiple * prime for prime in _PRIMES]
    clear = (size for size in (*allowed, *beyond) if not any(other % size == 0 for other in elsewhere))
    return next(clear, (allowed or [1])[-1])


def _shapes(program: Any) -> list[Any]:
    values = (node.meta.get("val") for node in program.graph.nodes)
    return [value.shape for value in values if hasattr(value, "shape")]


def _listed(dims: tuple[Dim, ...], batch: Dim | None = None) -> Plan:
    """A plan that lists `dims`, and a batch that does not resize."""
    every = dims if batch is None else (*dims, batch)
    combinations = size_combinations(every, MOST)
    if combinations is None:
        raise _too_many(every, batch)
    return Plan(every, tuple(combinations))


def _too_many(dims: Sequence[Dim], batch: Dim | None) -> ConversionError:
    dim = batch or max(dims, key=lambda dim: len(dim.sizes) if dim.max is not None else 2**62)
    fixed = dim.sizes[0] if batch else _usual(dim)
    why = "the model does not take another batch once converted, and" if batch else "LiteRT has no dynamic dims:"
    step = 16 if dim.max is None or dim.max >= 64 else 4
    return ConversionError(
        f"dimension {dim} can't stay dynamic: {why} {MOST} sizes are the most that one file holds",
        f"fix it, as --dim tflite.{dim.name}={fixed}, or give it few sizes, "
        f"as --dim tflite.{dim.name}={step}..{step * 4}/{step}",
    )


def _usual(dim: Dim) -> int:
    return next((size for size in (128, 64, 32, 16) if dim.allows(size)), dim.sizes[0])


def sample(inputs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> Arrays:
    """Inputs to convert with: integers that declare no values are 0 or 1."""
    bounded = [
        replace(spec, values=(0, 1)) if spec.values is None and "int" in spec.dtype else spec for spec in inputs
    ]
    return generate_at(bounded, dict(sizes))
