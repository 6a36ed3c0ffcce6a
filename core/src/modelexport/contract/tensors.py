"""Tensors and their declarations: names, dtypes, shapes with dynamic dims, and the checks of arrays against them.

Nothing here imports a framework; numpy arrays appear in type hints only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ..errors import InputError, OptionError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]
    Arrays = dict[str, Array]


def __getattr__(name: str) -> Any:
    """`Array` and `Arrays` for who asks at run time: numpy is imported then, and not before."""
    if name not in ("Array", "Arrays"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import numpy as np

    array = np.ndarray[Any, np.dtype[Any]]
    return array if name == "Array" else dict[str, array]


#: dtype names, as in numpy and torch; `bfloat16` and the float8 family exist in torch and ml_dtypes only.
DTYPES = [
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
    "complex64",
    "complex128",
]


@dataclass(frozen=True)
class Dim:
    """A dynamic dimension: its name, and the sizes it may take (`max=None`: unbounded).

    Dims with one name are one dimension: inputs that share it have equal sizes there. `multiple` is for
    models that take sizes in steps only, such as a U-Net that halves its input five times.
    """

    name: str
    min: int = 1
    max: int | None = None
    multiple: int = 1

    def __str__(self) -> str:
        high = "" if self.max is None else self.max
        bounds = (
            f"={self.min}..{high}" if (self.min, self.max) != (self.multiple, None) or self.multiple > 1 else ""
        )
        return f"{self.name}{bounds}" + (f"/{self.multiple}" if self.multiple > 1 else "")

    @property
    def sizes(self) -> range:
        """Every size that it takes."""
        return range(-(-self.min // self.multiple) * self.multiple, (self.max or 2**62) + 1, self.multiple)

    def allows(self, size: int) -> bool:
        return size in self.sizes


#: the largest size of a dim, the most axes (numpy's), the most characters of a declaration
SIZE, AXES, DECLARATION = 2**31 - 1, 64, 4096
#: the most elements of arrays that are made up for one call: 4 GiB of float64
ELEMENTS = 2**29

_DECLARATION = re.compile(r"(?P<name>[^:\[\]=\s]+):(?P<dtype>[a-z0-9]+)\[(?P<shape>[^\]]*)\](?:=(?P<values>\S+))?")
_DIM = re.compile(r"(?P<name>[A-Za-z_]\w*)(?:=(?P<min>[0-9]+)\.\.(?P<max>[0-9]*)(?:/(?P<multiple>[0-9]+))?)?")
_RANGE = re.compile(r"(?P<low>-?[0-9.e+-]*?[0-9])\.\.(?P<high>-?[0-9.e+-]+)")


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of one input or output.

    `shape` holds ints for fixed sizes and `Dim`s for dynamic ones. `values` bounds what an input may hold,
    inclusive at both ends (a vocabulary, a pixel range), or is `"mask"`: ones followed by zeros along the
    last axis, at least one 1.
    """

    name: str
    dtype: str
    shape: tuple[int | Dim, ...]
    values: tuple[float, float] | Literal["mask"] | None = None

    @classmethod
    def parse(cls, text: str) -> TensorSpec:
        """Read a declaration, `NAME:DTYPE[DIM,…]` with an optional `=LOW..HIGH` or `=mask`.

        >>> str(TensorSpec.parse("ids:int64[batch,seq=1..512]=0..30521").shape[1])
        'seq=1..512'

        Raises OptionError when the text is not such a declaration.
        """
        match = _DECLARATION.fullmatch(text.strip()) if len(text) <= DECLARATION else None
        if match is None or not match["name"].isprintable():
            raise OptionError(
                f"can't read the input declaration {text!r}",
                'write it like "x:float32[batch=1..32,3,224,224]" or "ids:int64[batch,seq]=0..30521"',
            )
        dtype = match["dtype"]
        if dtype not in DTYPES:
            raise OptionError(
                f"unknown dtype {dtype!r} in the input declaration {text!r}", f"one of {', '.join(DTYPES)}"
            )
        parts = [part.strip() for part in match["shape"].split(",")] if match["shape"].strip() else []
        if len(parts) > AXES:
            raise OptionError(f"an input is declared with {len(parts)} axes", f"arrays have {AXES} at most")
        shape = tuple(_parse_dim(part, text) for part in parts)
        return cls(match["name"], dtype, shape, _parse_values(match["values"], dtype, text))

    def __str__(self) -> str:
        values: str | None = self.values if isinstance(self.values, str) else None
        if isinstance(self.values, tuple):
            values = f"{self.values[0]:.12g}..{self.values[1]:.12g}"
        return f"{self.name}:{self.dtype}[{','.join(map(str, self.shape))}]" + (f"={values}" if values else "")

    @property
    def dims(self) -> tuple[Dim, ...]:
        return tuple(size for size in self.shape if isinstance(size, Dim))


def _parse_dim(part: str, text: str) -> int | Dim:
    match = _DIM.fullmatch(part)
    digits = [part] if re.fullmatch("[0-9]+", part) else [*match.group("min", "max", "multiple")] if match else []
    if any(len(number or "") > 10 or int(number or 1) > SIZE for number in digits):
        raise OptionError(f"the dimension {part[:80]!r} is too large", f"sizes go to {SIZE}")
    if match is None and digits and int(part) > 0:
        return int(part)
    if match is None:
        raise OptionError(
            f"can't read the dimension {part!r} of the input declaration {text!r}",
            "a size like 224, a name like batch, a name with bounds like batch=1..32 (or side=64..512/32)",
        )
    step = max(1, int(match["multiple"] or 1))
    low, high = int(match["min"] or 1), int(match["max"]) if match["max"] else None
    low, high = -(-low // step) * step, high // step * step if high is not None else None
    if low < 1 or (high is not None and high < low):
        raise OptionError(f"the bounds of dimension {part!r} are empty", "write them from low to high, 1 at least")
    return low if low == high else Dim(match["name"], low, high, step)


def _parse_values(values: str | None, dtype: str, text: str) -> tuple[float, float] | Literal["mask"] | None:
    if values is None:
        return None
    if values == "mask":
        return "mask"
    match = _RANGE.fullmatch(values)
    if match is None:
        raise OptionError(f"can't read the values {values!r} of {text!r}", "write =0..30521, or =mask")
    try:
        low, high = float(match["low"]), float(match["high"])
    except ValueError as error:
        raise OptionError(f"can't read the values {values!r} of {text!r}", "write =0..30521, or =mask") from error
    if high < low:
        raise OptionError(f"the values {values!r} of {text!r} are empty", "write them from low to high")
    if not (math.isfinite(low) and math.isfinite(high)) or not _fit(low, high, dtype):
        raise OptionError(f"the values {values!r} of {text!r} are more than {dtype} holds", "write =0..30521")
    return low, high


def _fit(low: float, high: float, dtype: str) -> bool:
    """Whether integers of `dtype` go as far; floats may round."""
    signed, unsigned = dtype.partition("int")[::2]
    if not unsigned.isdecimal():
        return True
    bits = int(unsigned)
    least, most = (0, 2**bits - 1) if signed == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return least <= low and high <= most


def check_count(what: str, count: int) -> None:
    """Raise InputError where arrays of `count` elements would be made up, which fit into no memory."""
    if count > ELEMENTS:
        raise InputError(
            f"{what} would have {count} elements, {ELEMENTS} are made up at most", "declare smaller sizes"
        )


def unify_dims(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Give dims of one name one pair of bounds: those declared, intersected. Raises OptionError if empty."""
    bounds: dict[str, Dim] = {}
    for dim in (dim for spec in specs for dim in spec.dims):
        seen = bounds.get(dim.name, dim)
        highs = [high for high in (seen.max, dim.max) if high is not None]
        step = math.lcm(seen.multiple, dim.multiple)
        merged = Dim(dim.name, max(seen.min, dim.min), min(highs) if highs else None, step)
        if merged.max is not None and merged.max < merged.min:
            raise OptionError(
                f"dimension {dim.name!r} is declared with bounds that exclude each other: {seen}, {dim}",
                "dims of one name are one dimension; use two names for two",
            )
        bounds[dim.name] = merged
    return tuple(
        replace(spec, shape=tuple(bounds[s.name] if isinstance(s, Dim) else s for s in spec.shape))
        for spec in specs
    )


def check_inputs(inputs: Mapping[str, Array], specs: Sequence[TensorSpec]) -> None:
    """Raise InputError for the first thing about `inputs` that does not fit `specs`."""
    wanted = ", ".join(str(spec) for spec in specs)
    known = {spec.name for spec in specs}
    unknown, missing = sorted(set(inputs) - known), sorted(known - set(inputs))
    if unknown:
        raise InputError(f"the model has no input {unknown[0]!r}", f"its inputs: {wanted}")
    if missing:
        raise InputError(f"input {missing[0]!r} is missing", f"its inputs: {wanted}")
    sizes: dict[str, int] = {}
    for spec in specs:
        array = inputs[spec.name]
        dtype = getattr(getattr(array, "dtype", None), "name", type(array).__name__)
        if dtype != spec.dtype:
            raise InputError(f"input {spec.name!r} has dtype {dtype}, the model takes {spec.dtype}", str(spec))
        if array.ndim != len(spec.shape):
            raise InputError(
                f"input {spec.name!r} has rank {array.ndim}, the model takes {len(spec.shape)}", str(spec)
            )
        for axis, (size, want) in enumerate(zip(array.shape, spec.shape, strict=True)):
            if isinstance(want, int):
                if size != want:
                    raise InputError(
                        f"input {spec.name!r} has size {size} on axis {axis}, the model takes {want}",
                        str(spec),
                    )
                continue
            if not want.allows(size):
                raise InputError(
                    f"input {spec.name!r} has size {size} on axis {axis} ({want.name}), outside {want}",
                    str(spec),
                )
            if sizes.setdefault(want.name, size) != size:
                raise InputError(
                    f"input {spec.name!r} has {want.name}={size}, another input has {sizes[want.name]}",
                    "dims of one name must have one size",
                )


def dims_of(specs: Sequence[TensorSpec]) -> tuple[Dim, ...]:
    """The distinct dims of `specs`, in order of appearance."""
    return tuple({dim.name: dim for spec in specs for dim in spec.dims}.values())


def fits(inputs: Mapping[str, Array], specs: Sequence[TensorSpec]) -> bool:
    """Whether `inputs` are what `specs` declare; `check_inputs` says what is wrong where they are not."""
    try:
        check_inputs(inputs, specs)
    except InputError:
        return False
    return True


def cast(array: Array, dtype: str) -> Array:
    """`array` as `dtype`; bfloat16 needs ml_dtypes, which comes with the runtimes that know it."""
    import numpy as np

    if dtype == "bfloat16":
        import ml_dtypes

        return np.asarray(array).astype(ml_dtypes.bfloat16)
    return np.asarray(array).astype(dtype)
