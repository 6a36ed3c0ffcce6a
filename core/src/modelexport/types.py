"""The values that flow between core and plugins: frozen dataclasses, and the Session that runs a model.

Nothing here imports a framework; numpy arrays appear in type hints only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import InputError, OptionError
from .target import Target

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np

    from .golden import State

    Array = np.ndarray[Any, np.dtype[Any]]
    Arrays = dict[str, Array]

__all__ = [
    "Artifact", "Build", "Captured", "Dim", "FileEntry", "LoadOptions", "Parity", "Session", "Source", "Step",
    "Target", "TensorSpec",
]  # fmt: skip

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

Verified = bool | Literal["structure"]


# --------------------------------------------------------------------------------------- tensors


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


_DECLARATION = re.compile(r"(?P<name>[^:\[\]=\s]+):(?P<dtype>[a-z0-9]+)\[(?P<shape>[^\]]*)\](?:=(?P<values>\S+))?")
_DIM = re.compile(r"(?P<name>[A-Za-z_]\w*)(?:=(?P<min>\d+)\.\.(?P<max>\d*)(?:/(?P<multiple>\d+))?)?")
_RANGE = re.compile(r"(?P<low>-?[\d.e+-]*?\d)\.\.(?P<high>-?[\d.e+-]+)")


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

        >>> TensorSpec.parse("ids:int64[batch,seq=1..512]=0..30521").shape[1]
        Dim(name='seq', min=1, max=512)

        Raises OptionError when the text is not such a declaration.
        """
        match = _DECLARATION.fullmatch(text.strip())
        if match is None:
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
        shape = tuple(_parse_dim(part, text) for part in parts)
        return cls(match["name"], dtype, shape, _parse_values(match["values"], text))

    def __str__(self) -> str:
        values: str | None = self.values if isinstance(self.values, str) else None
        if isinstance(self.values, tuple):
            values = f"{self.values[0]:.12g}..{self.values[1]:.12g}"
        return f"{self.name}:{self.dtype}[{','.join(map(str, self.shape))}]" + (f"={values}" if values else "")

    @property
    def dims(self) -> tuple[Dim, ...]:
        return tuple(size for size in self.shape if isinstance(size, Dim))


def _parse_dim(part: str, text: str) -> int | Dim:
    if part.isdigit() and int(part) > 0:
        return int(part)
    match = _DIM.fullmatch(part)
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


def _parse_values(values: str | None, text: str) -> tuple[float, float] | Literal["mask"] | None:
    if values is None:
        return None
    if values == "mask":
        return "mask"
    match = _RANGE.fullmatch(values)
    if match is None:
        raise OptionError(f"can't read the values {values!r} of {text!r}", "write =0..30521, or =mask")
    low, high = float(match["low"]), float(match["high"])
    if high < low:
        raise OptionError(f"the values {values!r} of {text!r} are empty", "write them from low to high")
    return low, high


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


# --------------------------------------------------------------------------------------- sources


@dataclass(frozen=True)
class Source:
    """A model to export: what a factory may return, and what every source plugin returns.

    `module`     the live model: an `nn.Module` for `format="module"`, an `ExportedProgram` for `"captured"`
    `inputs`     one TensorSpec (or declaration string) an input, in the order the model takes them
    `example`    example inputs, a tuple in that order or a dict by name; their values set the value ranges
    `outputs`    names for the outputs, where the model's own are not wanted
    `processing` how to make inputs from text or images and read outputs; see docs/reference/manifest.md
    `files`      files to carry into the artifact, by the name they get there
    `reference`  for formats other than a live module: computes outputs from inputs, both by name
    `state`      what `reference` remembers between calls, a `golden.State`
    `golden`     the golden.npz of an artifact that stands for the original model
    """

    module: Any = None
    inputs: tuple[TensorSpec | str, ...] = ()
    example: Any = None
    outputs: tuple[str, ...] = ()
    processing: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    format: str = "module"
    path: Path | None = None
    ref: str = ""
    name: str = ""
    reference: Callable[[Arrays], Arrays] | None = None
    state: State | None = None
    golden: Path | None = None
    lineage: tuple[Step, ...] = ()

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """The inputs as TensorSpecs, dims of one name unified."""
        return unify_dims([TensorSpec.parse(s) if isinstance(s, str) else s for s in self.inputs])


@dataclass(frozen=True)
class LoadOptions:
    """What the command line says about the source; a source plugin takes what concerns it."""

    inputs: tuple[str, ...] = ()
    weights: Path | None = None
    task: str | None = None
    allow_pickle: bool = False
    allow_download: bool = False


@dataclass(frozen=True)
class Captured:
    """A model captured by torch.export: what a target that consumes `captured` is given.

    `program` is the `torch.export.ExportedProgram`. It is shared between targets: a target whose lowering
    changes the program must take a `copy.deepcopy` first. `dynamic_shapes` is the structure torch.export
    was given, for converters that want the dims' names again.
    """

    program: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dynamic_shapes: Any = None
    processing: Mapping[str, Any] = field(default_factory=dict)
    format: str = "captured"


# --------------------------------------------------------------------------------------- targets


@dataclass(frozen=True)
class Build:
    """What `mx_export`, `mx_optimize` and `mx_quantize` return: what they wrote into `out`.

    `entry` is the file (or folder) that a session loads, relative to `out`; `tools` the packages whose
    versions belong in the lineage; `precision` picks the parity budget; `details` goes into the manifest, and
    lines in its `notes` are shown to the user at once. `samples` are real inputs of an export that took the ranges
    of activations from real data: the gate checks it on these, since random inputs would show saturation only.
    """

    entry: str
    tools: tuple[str, ...] = ()
    precision: str = "float32"
    details: Mapping[str, Any] = field(default_factory=dict)
    samples: tuple[Arrays, ...] = ()


# --------------------------------------------------------------------------------------- artifacts

#: the program that a later step starts from stands in `source/`, code to start from in `snippets/`
_NOT_DEPLOYED = ("golden.npz", "source/", "snippets/")


@dataclass(frozen=True)
class Step:
    """One verb of an artifact's lineage: what was done, with which options, tools and source."""

    verb: str
    target: str
    options: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and sha256 of one file, by its path relative to the artifact (with `/`)."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Parity:
    """What the parity gate found: see `modelexport.parity`.

    `verified` is True, False, or "structure"; `reason` says why it is not True. `outputs` holds the worst
    figure an output reached over all cases and its budget; `cases` the names of the input cases.
    """

    verified: Verified
    reason: str = ""
    outputs: tuple[Mapping[str, Any], ...] = ()
    cases: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """A model on disk, complete: the directory `path` with `manifest.json`, the target's files, golden.npz."""

    path: Path
    format: str
    entry: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: str = "float32"
    lineage: tuple[Step, ...] = ()
    files: tuple[FileEntry, ...] = ()
    parity: Parity = Parity(False, "not verified")
    processing: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def entry_path(self) -> Path:
        return self.path / self.entry

    @property
    def golden(self) -> Path:
        return self.path / "golden.npz"

    @property
    def size(self) -> int:
        """Bytes of what is deployed: golden data is left out, and what only later steps read or people do."""
        return sum(file.size for file in self.files if not file.path.startswith(_NOT_DEPLOYED))


# --------------------------------------------------------------------------------------- sessions


class Session:
    """A loaded model: `session({name: array}) -> {name: array}`; a context manager.

    Plugins return one from `mx_run`. `call` gets inputs whose names, dtypes, ranks and sizes were checked,
    and returns every output by name. The check costs about a microsecond an input. `details` says what the
    runtime makes of it; its `note` is a line that `mx run` shows on stderr.
    """

    def __init__(
        self,
        call: Callable[[Mapping[str, Array]], dict[str, Array]],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec] = (),
        close: Callable[[], None] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self._call: Callable[[Mapping[str, Array]], dict[str, Array]] | None = call
        self._close = close
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.details = dict(details or {})
        self._expected = tuple(
            (spec.name, _native_dtype(spec.dtype), len(spec.shape), _allowed_sizes(spec)) for spec in self.inputs
        )
        self._shared = _shared_axes(self.inputs)

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        call = self._call
        if call is None:
            raise InputError("the session is closed", "load the artifact again")
        if not self._fits(inputs):
            check_inputs(inputs, self.inputs)
        return call(inputs)

    def _fits(self, inputs: Mapping[str, Array]) -> bool:
        """The fast half of `check_inputs`: it only says whether something is wrong."""
        if len(inputs) != len(self._expected):
            return False
        try:
            for name, dtype, rank, sizes in self._expected:
                array = inputs[name]
                shape = array.shape
                if array.dtype != dtype or len(shape) != rank:
                    return False
                for axis, allowed in sizes:
                    if shape[axis] not in allowed:
                        return False
            for name, axis, other, other_axis in self._shared:
                if inputs[name].shape[axis] != inputs[other].shape[other_axis]:
                    return False
        except (KeyError, AttributeError):
            return False
        return True

    def close(self) -> None:
        """Release the runtime. Safe to call twice."""
        close, self._call, self._close = self._close, None, None
        if close is not None:
            close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _native_dtype(name: str) -> Any:
    """The numpy dtype: comparing two of them is an identity check, comparing names builds a string."""
    import numpy as np

    try:
        return np.dtype(name)
    except TypeError:  # bfloat16 and friends exist in ml_dtypes only
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def _allowed_sizes(spec: TensorSpec) -> tuple[tuple[int, range], ...]:
    """Every axis with the sizes it may have: a range knows steps too, and asks for no loop."""
    return tuple(
        (axis, range(size, size + 1) if isinstance(size, int) else size.sizes)
        for axis, size in enumerate(spec.shape)
    )


def _shared_axes(specs: Sequence[TensorSpec]) -> tuple[tuple[str, int, str, int], ...]:
    """Pairs of axes that must have one size, each with the first axis of that dim."""
    first: dict[str, tuple[str, int]] = {}
    pairs = []
    for spec in specs:
        for axis, size in enumerate(spec.shape):
            if isinstance(size, Dim):
                other = first.setdefault(size.name, (spec.name, axis))
                if other != (spec.name, axis):
                    pairs.append((spec.name, axis, *other))
    return tuple(pairs)


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
