"""Inputs that every contestant of a benchmark takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract.artifacts import Artifact
from ..contract.tensors import Dim, TensorSpec, check_inputs, dims_of, unify_dims
from ..errors import InputError, OptionError
from ..gate import cases
from ..store.arrays import load_npz, save_npz

if TYPE_CHECKING:
    from ..contract.tensors import Arrays


def shared_inputs(
    artifacts: Sequence[Artifact], dims: Mapping[str, int], file: Path | None
) -> tuple[Arrays, dict[str, int]]:
    """Arrays by input name, and the size of each dim in them. Raises InputError, OptionError."""
    specs, held = _common(artifacts)
    sizes = _sizes(specs, dims, held)
    inputs = load_npz(file) if file else cases.draw(specs, sizes, seed=1)
    for artifact in artifacts:
        try:
            check_inputs(inputs, artifact.inputs)
        except InputError as error:
            raise InputError(f"{artifact.path} does not take these inputs: {error.message}", error.hint) from error
    seen = {
        size.name: inputs[spec.name].shape[axis]
        for spec in specs
        for axis, size in enumerate(spec.shape)
        if isinstance(size, Dim)
    }
    return inputs, seen


def _common(artifacts: Sequence[Artifact]) -> tuple[tuple[TensorSpec, ...], dict[str, int]]:
    """The inputs of the widest artifact within bounds that all take, and the dims that some hold at one size.

    Raises OptionError where no size suits all.
    """
    widest = max((artifact.inputs for artifact in artifacts), key=lambda specs: sum(len(s.dims) for s in specs))
    held: dict[str, int] = {}
    bounds: list[TensorSpec] = []
    for artifact in artifacts:
        shapes = {spec.name: spec.shape for spec in artifact.inputs}
        pairs = [pair for spec in widest for pair in zip(spec.shape, shapes.get(spec.name, ()), strict=False)]
        for size, own in ((size, own) for size, own in pairs if isinstance(size, Dim)):
            if isinstance(own, Dim):
                bounds.append(TensorSpec(size.name, "bool", (replace(own, name=size.name),)))
            elif held.setdefault(size.name, own) != own:
                raise OptionError(
                    f"{size.name} is {held[size.name]} in one artifact and {own} in another",
                    "benchmark them apart",
                )
    return unify_dims([*widest, *bounds])[: len(widest)], held


def _sizes(specs: Sequence[TensorSpec], asked: Mapping[str, int], held: Mapping[str, int]) -> dict[str, int]:
    known = {dim.name: dim for dim in dims_of(specs)}
    for name, size in (dict(asked) | {name: asked.get(name, size) for name, size in held.items()}).items():
        if name not in known:
            raise OptionError(f"the model has no dynamic dim {name!r}", f"it has {', '.join(known) or 'none'}")
        if not known[name].allows(size) or held.get(name, size) != size:
            takes = f"{name}={held[name]}" if name in held else known[name]
            raise OptionError(f"size {size} of {name} is outside {takes}", "give a size within the bounds")
    sizes = cases.middle_sizes(specs)
    if "batch" in known:
        sizes["batch"] = known["batch"].min
    return sizes | dict(held) | dict(asked)


def save(inputs: Arrays, path: Path) -> None:
    """Write the inputs as a .npz for the children; bfloat16 as float32."""
    import numpy as np

    arrays: dict[str, Any] = {
        name: array.astype(np.float32) if array.dtype.name == "bfloat16" else array
        for name, array in inputs.items()
    }
    save_npz(arrays, path)
