"""Input cases for the parity gate: the shapes and values at which wrong exports show.

Exporters are wrong at sizes they did not trace, at size 1, where two equal axes were swapped, and on values
that random data never takes. So the cases are: every dynamic dim at its low end, all at an odd middle (each
dim a different one), each at its high end, dims at one equal size; several seeds; edge values; structured
values; the user's samples.
Everything is drawn from seeded generators: the same declaration gives the same cases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..contract.tensors import Dim, TensorSpec, cast, check_count, check_inputs, dims_of, fits
from ..errors import InputError, first_line
from ..store.arrays import load_npz

if TYPE_CHECKING:
    import numpy as np

    from ..contract.tensors import Array, Arrays

#: elements of all inputs together above which a case at the high end of a dim is taken at a smaller size
MAX_ELEMENTS = 4_000_000

#: the high end of a dim declared without one
OPEN_END = 17

#: sizes above this (or four times the low end, if that is more) are not tried: attention over 32,768 tokens
#: is right where it is right over 4,096, and takes 64 times the memory
LONGEST = 4096


#: where inputs come from: drawn from a seed, or real, from the source's example, the user's samples or calibration
#: data
Origin = Literal["drawn", "example", "sample", "calibration"]


@dataclass(frozen=True)
class Case:
    """One set of inputs. An `edge` case may be dropped where the reference itself has no finite answer."""

    name: str
    inputs: Arrays
    edge: bool = False
    origin: Origin = "drawn"


def low_sizes(dims: Sequence[Dim]) -> dict[str, int]:
    """The smallest size that each dim declares."""
    return {dim.name: dim.min for dim in dims}


def middle_sizes(specs: Sequence[TensorSpec]) -> dict[str, int]:
    """An odd size (or odd multiple) near the geometric middle of each dim, different for each dim.

    It is 2 at least, so that it is a size to capture at too: torch.export specialises sizes 0 and 1.
    """
    dims = dims_of(specs)
    sizes: dict[str, int] = {}
    for dim in dims:
        high = _within_budget(specs, {**small_sizes(dims), dim.name: _high(dim)}, dim)[dim.name]
        step = dim.multiple
        middle = math.isqrt(max(dim.min // step, 2) * (high // step)) | 1
        up, down = range(middle * step, high + 1, 2 * step), range(middle * step, 1, -2 * step)
        allowed = [size for size in (*up[: len(dims)], *down[: len(dims)]) if dim.allows(size)] or [high]
        fresh = [size for size in allowed if size not in sizes.values()]
        sizes[dim.name] = (fresh or allowed)[0]
    return sizes


def equal_sizes(specs: Sequence[TensorSpec]) -> dict[str, int] | None:
    """As many dims as possible at one size, 2 at least, the rest small; None where no two have one in common.

    torch.export follows `if h == w` at the sizes it traces, which differ, and does not say so.
    """
    dims = dims_of(specs)
    candidates: list[dict[str, int]] = []
    for one, other in combinations(dims, 2):
        step = math.lcm(one.multiple, other.multiple)
        shared = -(-max(one.min, other.min, 2) // step) * step
        pair = {dim.name: shared for dim in (one, other) if dim.allows(shared)}
        every = {dim.name: shared for dim in dims if dim.allows(shared)}
        candidates += [{**small_sizes(dims), **equal} for equal in (pair, every) if len(pair) == 2]
    candidates = [sizes for sizes in candidates if _elements(specs, sizes) <= MAX_ELEMENTS]
    return max(candidates, key=lambda sizes: len(sizes) - len(set(sizes.values())), default=None)


def small_sizes(dims: Sequence[Dim]) -> dict[str, int]:
    """The low end of each dim, but 2 at least where the dim takes it."""
    return {dim.name: min(max(dim.min, 2), _high(dim)) for dim in dims}


def _high(dim: Dim) -> int:
    high = dim.max if dim.max is not None else max(4 * dim.min, OPEN_END - 1) + 1
    high = min(high, max(LONGEST, 4 * dim.min))
    return max(high // dim.multiple * dim.multiple, dim.min)


def generate(
    specs: Sequence[TensorSpec],
    example: Mapping[str, Array] | None = None,
    samples: Sequence[Arrays] = (),
    seeds: int = 3,
    minimal: bool = False,
) -> list[Case]:
    """The gate's cases for inputs `specs`; with `minimal`, the low end and the middle only.

    `example` gives the value range of inputs that declare none: floats and integers are drawn from between
    its smallest and largest value. Without either, floats are standard normal; an integer input needs one.
    """
    specs = [_with_values(spec, example) for spec in specs]
    dims = dims_of(specs)
    middle = middle_sizes(specs)
    cases = [Case("low", draw(specs, low_sizes(dims), seed=0))] if dims else []
    cases.append(Case("middle", draw(specs, middle, seed=1)))
    if minimal:
        return cases
    if example is not None and fits(example, specs):
        cases.insert(0, Case("example", dict(example), origin="example"))
    for dim in dims:
        sizes = _within_budget(specs, {**small_sizes(dims), dim.name: _high(dim)}, dim)
        cases.append(Case(f"high {dim.name}={sizes[dim.name]}", draw(specs, sizes, seed=2)))
    if equal := equal_sizes(specs):
        cases.append(Case("equal", draw(specs, equal, seed=2)))
    cases += [Case(f"seed {seed}", draw(specs, middle, seed)) for seed in range(2, seeds + 1)]
    cases += [Case(kind, draw(specs, middle, seed=1, kind=kind), edge=True) for kind in ("zeros", "ramp", "edges")]
    return cases + [Case(f"sample {index}", sample, origin="sample") for index, sample in enumerate(samples)]


def generate_at(
    specs: Sequence[TensorSpec], sizes: Mapping[str, int], example: Mapping[str, Array] | None = None
) -> Arrays:
    """One set of random inputs at the given sizes of the dims."""
    return draw([_with_values(spec, example) for spec in specs], sizes, seed=1)


def load_samples(path: Path, specs: Sequence[TensorSpec]) -> list[Arrays]:
    """The user's own inputs from a .npz: `NAME` for one sample, `NAME/0`, `NAME/1`… for several.

    Raises InputError when the file can't be read or a sample does not fit the model's inputs.
    """
    arrays = load_npz(path)
    groups: dict[str, Arrays] = {}
    for key, array in arrays.items():
        name, _, index = key.rpartition("/")
        name, index = (name, index) if name and index.isdigit() else (key, "")
        groups.setdefault(index, {})[name] = array
    for index, sample in groups.items():
        try:
            check_inputs(sample, specs)
        except InputError as error:
            where = f"sample {index} of {path}" if index else str(path)
            raise InputError(f"{where}: {error.message}", error.hint) from error
    return list(groups.values())


# --------------------------------------------------------------------------------------- values


def _with_values(spec: TensorSpec, example: Mapping[str, Array] | None) -> TensorSpec:
    if spec.values is not None or spec.dtype == "bool":
        return spec
    array = None if example is None else example.get(spec.name)
    if array is not None and array.size and array.dtype.kind in "iuf":
        low, high = float(array.min()), float(array.max())
        if spec.dtype.startswith(("int", "uint")) or (math.isfinite(low) and low < high):
            return replace(spec, values=(low, high))
    if spec.dtype.startswith(("int", "uint")):
        raise InputError(
            f"the values that integer input {spec.name!r} may take are unknown",
            f'declare them: --input "{spec}=0..30521" for a vocabulary of 30522, or =mask for a mask',
        )
    return spec


def draw(specs: Sequence[TensorSpec], sizes: Mapping[str, int], seed: int, kind: str = "random") -> Arrays:
    """One array an input at the given sizes. `kind`: random, zeros, ramp, or edges (extreme values).

    Raises InputError for sizes that no memory holds, and where there are no values to draw.
    """
    import numpy as np

    check_count("the inputs", _elements(specs, sizes))
    generator = np.random.default_rng(seed)
    arrays = {}
    for spec in specs:
        shape = tuple(sizes[s.name] if isinstance(s, Dim) else s for s in spec.shape)
        try:
            arrays[spec.name] = cast(_values(spec, shape, generator, kind), spec.dtype)
        except (ValueError, OverflowError) as error:
            raise InputError(f"can't draw input {spec}: {first_line(error)}", "declare other values") from error
    return arrays


def _values(spec: TensorSpec, shape: tuple[int, ...], generator: np.random.Generator, kind: str) -> Array:
    import numpy as np

    count = math.prod(shape)
    if spec.values == "mask":
        return _mask(shape, generator, full=kind in ("zeros", "ramp"))
    if spec.dtype == "bool":
        return generator.random(shape) < 0.5
    integer = spec.dtype.startswith(("int", "uint"))
    low, high = spec.values if isinstance(spec.values, tuple) else (-3.0, 3.0)
    if kind == "zeros":
        return np.full(shape, min(max(0.0, low), high))
    if kind == "ramp":
        # Bent: the sum of a straight ramp from -3 to 3 is rounding noise, and a model may branch on its sign.
        steps = low + (high - low) * np.linspace(0, 1, count).reshape(shape) ** 2
        return np.rint(steps) if integer else steps
    if kind == "edges":
        return generator.choice(np.array([low, high]), size=shape)
    if integer:
        return generator.integers(int(low), int(high), size=shape, endpoint=True)
    if spec.values is not None:
        return generator.uniform(low, high, size=shape)
    drawn = generator.standard_normal(shape)
    return drawn + 1j * generator.standard_normal(shape) if spec.dtype.startswith("complex") else drawn


def _mask(shape: tuple[int, ...], generator: np.random.Generator, full: bool) -> Array:
    import numpy as np

    length = shape[-1] if shape else 1
    kept = np.full(shape[:-1], length) if full else generator.integers(1, length, size=shape[:-1], endpoint=True)
    return (np.arange(length) < kept[..., None]).reshape(shape)


def _within_budget(specs: Sequence[TensorSpec], sizes: dict[str, int], dim: Dim) -> dict[str, int]:
    """`sizes` with `dim` halved towards its low end until the case has at most MAX_ELEMENTS elements."""
    sizes = dict(sizes)
    while _elements(specs, sizes) > MAX_ELEMENTS:
        smaller = sizes[dim.name] // 2 // dim.multiple * dim.multiple
        if smaller < max(dim.min, 2):
            break
        sizes[dim.name] = smaller
    return sizes


def _elements(specs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> int:
    return sum(math.prod(sizes[s.name] if isinstance(s, Dim) else s for s in spec.shape) for spec in specs)
