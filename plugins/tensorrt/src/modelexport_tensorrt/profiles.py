"""Optimization profiles: the sizes that an engine takes, and those that its kernels are chosen for.

A profile gives every dynamic dim a smallest, an optimal and a largest size. Dims are the model's own, so inputs
that share one agree in every profile.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from modelexport.contract import Dim, TensorSpec, dims_of
from modelexport.errors import OptionError
from modelexport.toolkit import OPEN_END, batches, bounds

#: the batch that kernels are chosen for, where it is in range; of other dims it is half their largest size
USUAL_BATCH = 8

_EXAMPLE = "write MIN:OPT:MAX of an input or a dim, such as ids=1x1:8x128:32x512 or batch=1:8:32"


@dataclass(frozen=True)
class Sizes:
    """The smallest, the optimal and the largest size of a dim."""

    min: int
    opt: int
    max: int

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"

    def takes(self, size: int) -> bool:
        return self.min <= size <= self.max


#: dim → its sizes
Profile = Mapping[str, Sizes]

#: the shape of one input: smallest, optimal, largest
Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def make(specs: Sequence[TensorSpec], asked: Sequence[str], bound: int | None) -> tuple[Profile, ...]:
    """The profiles asked for, or one that spans what the dims are declared for; none for fixed shapes.

    Raises OptionError for sizes that contradict the declaration or one another, or that leave some of it out.
    """
    dims = dims_of(specs)
    if asked and not dims:
        raise OptionError(
            f"profile={','.join(asked)}: every input has a fixed shape",
            f"leave it out, or declare a dynamic dim: {', '.join(map(str, specs))}",
        )
    if not dims:
        return ()
    profiles = tuple(read(text, specs) for text in asked) or (usual(specs, bound),)
    for dim in dims:
        _check_covered(dim, [profile[dim.name] for profile in profiles])
    return profiles


def usual(specs: Sequence[TensorSpec], bound: int | None) -> dict[str, Sizes]:
    """One profile for all that is declared: batches of 8, others at half their largest size.

    Raises OptionError where `bound` is below the low end of a dim that has no high one.
    """
    largest, firsts = bounds(specs, bound), batches(specs)
    profile = {}
    for dim in dims_of(specs):
        low, high = dim.sizes[0], (dim.max or largest[dim.name]) // dim.multiple * dim.multiple
        best = min(USUAL_BATCH, high) if dim.name in firsts else high // 2
        profile[dim.name] = Sizes(low, max(best // dim.multiple * dim.multiple, low), high)
    return profile


def opened(specs: Sequence[TensorSpec], profiles: Sequence[Profile]) -> dict[str, int]:
    """Dims declared without an upper bound, with the one that the profiles give them."""
    open_dims = [dim.name for dim in dims_of(specs) if dim.max is None]
    return {name: max(profile[name].max for profile in profiles) for name in open_dims}


def shapes(profile: Profile, spec: TensorSpec) -> Shapes:
    """The three shapes of one input."""

    def at(end: str) -> tuple[int, ...]:
        return tuple(getattr(profile[s.name], end) if isinstance(s, Dim) else s for s in spec.shape)

    return at("min"), at("opt"), at("max")


def fitting(profiles: Sequence[Profile], sizes: Mapping[str, int]) -> int | None:
    """The number of the profile that takes `sizes` of the dims, the tightest of them; None where none does."""
    fits = [n for n, profile in enumerate(profiles) if all(profile[d].takes(size) for d, size in sizes.items())]
    return min(fits, key=lambda n: sum(each.max for each in profiles[n].values()), default=None)


# --------------------------------------------------------------------------------------- what the user wrote


def text(profile: Profile) -> str:
    """A profile as `read` reads it, by its dims."""
    return ";".join(f"{name}={sizes}" for name, sizes in profile.items())


def check_text(text: str) -> None:
    """Raise OptionError for a profile that can't be read, whatever the model is."""
    for part in _parts(text):
        name, _, value = part.partition("=")
        low, best, high = _numbers(value, part)
        if not name.strip():
            raise OptionError(f"the profile {part!r} names no input or dim", _EXAMPLE)
        if not len(low) == len(best) == len(high):
            raise OptionError(f"profile {part!r}: the three shapes differ in their number of dims", _EXAMPLE)
        for sizes in zip(low, best, high, strict=True):
            _check_order(Sizes(*sizes), name, part)


def read(text: str, specs: Sequence[TensorSpec]) -> Profile:
    """One profile from `NAME=MIN:OPT:MAX;…`, a name being an input's or a dim's. Raises OptionError."""
    inputs, declared = {spec.name: spec for spec in specs}, {dim.name: dim for dim in dims_of(specs)}
    profile: dict[str, Sizes] = {}
    for part in _parts(text):
        name, _, value = part.partition("=")
        shapes = _numbers(value, part)
        if name in inputs:
            sizes_of = _of_input(inputs[name], shapes, part)
        elif name in declared:
            sizes_of = {name: [shape[0] for shape in shapes]}
        else:
            known = ", ".join([*inputs, *declared])
            raise OptionError(f"profile {part!r}: the model has no input or dim {name!r}", f"it has {known}")
        for dim, sizes in sizes_of.items():
            _keep(profile, declared[dim], Sizes(*sizes), part)
    if left := [name for name in declared if name not in profile]:
        of = next(spec.name for spec in specs if left[0] in {dim.name for dim in spec.dims})
        raise OptionError(
            f"profile {text!r} says nothing of dim {left[0]!r} of input {of!r}", f"add {left[0]}=MIN:OPT:MAX"
        )
    return profile


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()]


def _numbers(value: str, part: str) -> list[list[int]]:
    """`1x1:8x128:32x512` as three lists of sizes."""
    if not re.fullmatch(r"\d+(x\d+)*(:\d+(x\d+)*){2}", value.strip()):
        raise OptionError(f"can't read the profile {part!r}", _EXAMPLE)
    return [[int(size) for size in shape.split("x")] for shape in value.split(":")]


def _of_input(spec: TensorSpec, shapes: list[list[int]], part: str) -> dict[str, list[int]]:
    """The sizes of an input's dims, from three shapes of it."""
    sizes_of: dict[str, list[int]] = {}
    for shape in shapes:
        if len(shape) != len(spec.shape):
            raise OptionError(f"profile {part!r}: input {spec.name!r} has {len(spec.shape)} dims", str(spec))
    for axis, want in enumerate(spec.shape):
        sizes = [shape[axis] for shape in shapes]
        if isinstance(want, int):
            if set(sizes) != {want}:
                wrong = next(size for size in sizes if size != want)
                raise OptionError(
                    f"profile {part!r}: axis {axis} of {spec.name!r} is fixed at {want}, not {wrong}", str(spec)
                )
        elif sizes_of.setdefault(want.name, sizes) != sizes:
            raise OptionError(f"profile {part!r}: {want.name} has two different sizes", str(spec))
    return sizes_of


def _keep(profile: dict[str, Sizes], dim: Dim, sizes: Sizes, part: str) -> None:
    _check_order(sizes, dim.name, part)
    for size in (sizes.min, sizes.opt, sizes.max):
        if not dim.allows(size):
            raise OptionError(
                f"profile {part!r}: the model does not take {dim.name}={size}, it is declared as {dim}",
                "declare it wider with --input",
            )
    if profile.setdefault(dim.name, sizes) != sizes:
        raise OptionError(
            f"profile {part!r}: {dim.name} is {sizes} here, and {profile[dim.name]} in another input",
            "inputs that share a dim share its sizes",
        )


def _check_order(sizes: Sizes, name: str, part: str) -> None:
    if not sizes.min <= sizes.opt <= sizes.max:
        raise OptionError(f"profile {part!r}: {name}={sizes} is not in order", "write MIN:OPT:MAX")


def _check_covered(dim: Dim, sizes: Iterable[Sizes]) -> None:
    """Raise OptionError for a size that is declared, and in no profile; an open dim goes as far as the gate."""
    last = dim.max or max(OPEN_END, 4 * dim.min) // dim.multiple * dim.multiple
    wanted = dim.sizes[0]
    for each in sorted(sizes, key=lambda each: each.min):
        if each.min <= wanted:
            wanted = max(wanted, (each.max // dim.multiple + 1) * dim.multiple)
    if wanted <= last:
        end = "" if dim.max else f", without an end, and the gate goes up to {last}"
        raise OptionError(
            f"no profile takes {dim.name}={wanted}: the model is declared for {dim}{end}",
            f"widen the profiles, or declare less: --dim {dim.name}=LOW..HIGH, or --input for an ONNX file",
        )
