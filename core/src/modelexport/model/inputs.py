"""Find the inputs of a source: as declared, or from its example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..contract.sources import Source
from ..contract.target import MODULE
from ..contract.tensors import Dim, TensorSpec, unify_dims
from ..errors import InputError
from . import reference

if TYPE_CHECKING:
    from ..contract.tensors import Array, Arrays


@dataclass(frozen=True)
class DescribedSource:
    """A source whose inputs are known: `example` holds the example's arrays by input name, if there is one."""

    source: Source
    specs: tuple[TensorSpec, ...]
    example: Arrays | None = None


def describe(source: Source) -> DescribedSource:
    """Find the inputs' specs: as declared, else from the example. Raises InputError when there is neither."""
    example = reference.example_arrays(source) if source.example is not None else None
    if source.inputs:
        specs = source.specs
        if example is not None and set(example) != {spec.name for spec in specs}:
            example = _rename(example, specs)
        return DescribedSource(source, specs, example)
    if example is None:
        raise InputError(
            "the model's inputs are unknown",
            f'declare them: --input "{_first_parameter(source)}:float32[batch,3,224,224]", or let the factory '
            "return (module, example_inputs)",
        )
    specs = tuple(TensorSpec(name, a.dtype.name, tuple(a.shape)) for name, a in example.items())
    return DescribedSource(source, unify_dims(specs), example)


def _rename(example: Arrays, specs: Sequence[TensorSpec]) -> Arrays:
    """Declared names go over the example's by position, when there are as many."""
    if len(example) != len(specs):
        raise InputError(
            f"{len(specs)} inputs are declared, the example has {len(example)}: {', '.join(example)}",
            "declare every input, in the order the model takes them",
        )
    by_name = {spec.name: example[spec.name] for spec in specs if spec.name in example}
    rest: list[Array] = [array for name, array in example.items() if name not in by_name]
    return {spec.name: by_name[spec.name] if spec.name in by_name else rest.pop(0) for spec in specs}


def _first_parameter(source: Source) -> str:
    names = reference.parameters(source.module) if source.format == MODULE else []
    return names[0] if names else "x"


def fixed(specs: Sequence[TensorSpec]) -> bool:
    return not any(isinstance(size, Dim) for spec in specs for size in spec.shape)
