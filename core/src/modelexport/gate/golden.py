"""golden.npz: the inputs of every case and the reference's outputs, so that parity needs no torch.

Each case is computed twice. Equal answers make a stateless reference; answers that differ because a buffer
changed make a stateful one, whose second answers are kept too; answers that differ for no visible reason
make no reference at all, and are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from ..contract.sources import NoState, State
from ..contract.tensors import Dim, TensorSpec, dims_of
from ..errors import ArtifactError, InputError, ReferenceError
from ..store.arrays import NUMBERS, load_npz, save_npz
from .cases import Case, Origin

if TYPE_CHECKING:
    from ..contract.tensors import Array, Arrays

#: what golden.npz has of a case, and the kind of dtype that texts have
PARTS, TEXT = ("in", "out", "again", "origin"), "U"

#: why a random case is left out of the gate of what was calibrated
RANDOM = "random inputs, which say nothing about ranges taken from real ones"


@dataclass(frozen=True)
class GoldenCase:
    """One case's inputs and outputs; `again` holds those of the second call where they differ."""

    name: str
    inputs: Arrays
    outputs: Arrays
    again: Arrays | None = None
    origin: Origin = "drawn"

    @property
    def is_real(self) -> bool:
        """Whether its inputs are somebody's real ones, not drawn from a seed."""
        return self.origin != "drawn"


@dataclass(frozen=True)
class Golden:
    """All cases, in the order in which a session must see them; `skipped`: edge cases dropped, with why."""

    cases: tuple[GoldenCase, ...]
    skipped: dict[str, str] = field(default_factory=dict)


def compute(
    reference: Callable[[Arrays], Arrays],
    cases: Sequence[Case],
    state: State | None = None,
    repeat: bool = True,
) -> Golden:
    """Run the reference on every case. `state` is left as it was found.

    Raises ReferenceError where the reference raises, answers NaN, or answers two equal calls differently.
    """
    state = state or NoState()
    try:
        golden = _run(reference, cases, repeat)
        if state.changed() and repeat:
            return _check_stateful(reference, golden, state)
    finally:
        if state.changed():
            state.restore()
    if differing := _first_difference((c, c.outputs, c.again or c.outputs) for c in golden.cases):
        raise ReferenceError(
            f"two equal calls of the source differ, in output {differing[1]!r} by {differing[2]:.3g} (case "
            f"{differing[0]!r}), although no buffer changed: there is no reference to compare with",
            "is dropout left on (F.dropout without training=self.training), another random operator, "
            "or state in a Python attribute?",
        )
    return Golden(tuple(replace(case, again=None) for case in golden.cases), golden.skipped)


def _run(reference: Callable[[Arrays], Arrays], cases: Sequence[Case], repeat: bool) -> Golden:
    done: list[GoldenCase] = []
    skipped: dict[str, str] = {}
    for case in cases:
        try:
            outputs = _call(reference, case)
            again = _call(reference, case) if repeat else outputs
        except ReferenceError as error:
            if not case.edge:
                raise
            skipped[case.name] = error.message
            continue
        done.append(GoldenCase(case.name, case.inputs, outputs, again, case.origin))
    return Golden(tuple(done), skipped)


def _call(reference: Callable[[Arrays], Arrays], case: Case) -> Arrays:
    import numpy as np

    outputs = reference(case.inputs)
    for name, array in outputs.items():
        if array.dtype.kind in "fc" and np.isnan(array).any():
            raise ReferenceError(
                f"the source answers NaN in output {name!r} (case {case.name!r}): nothing can be compared with it",
                "check the weights, or say which values are valid: --input 'NAME:DTYPE[…]=LOW..HIGH' or --sample",
            )
    return outputs


def _check_stateful(reference: Callable[[Arrays], Arrays], golden: Golden, state: State) -> Golden:
    """A stateful reference must at least repeat itself from the same state."""
    state.restore()
    inputs = [Case(case.name, case.inputs, origin=case.origin) for case in golden.cases]
    second = _run(reference, inputs, repeat=True)
    pairs = zip(golden.cases, second.cases, strict=True)
    if differing := _first_difference((one, one.outputs, other.outputs) for one, other in pairs):
        raise ReferenceError(
            f"the source is random as well as stateful: output {differing[1]!r} differs by {differing[2]:.3g} "
            f"from the same state (case {differing[0]!r})",
            "is dropout left on?",
        )
    return golden


def _first_difference(triples: Iterable[tuple[GoldenCase, Arrays, Arrays]]) -> tuple[str, str, float] | None:
    """Case, output and gap of the first pair of answers that differ by more than rounding."""
    import numpy as np

    for case, one, other in triples:
        for name in one:
            a, b = np.asarray(one[name]), np.asarray(other[name])
            if a.shape != b.shape:
                return case.name, name, float("inf")
            if a.dtype.kind not in "fc":
                if not np.array_equal(a, b):
                    return case.name, name, float(np.abs(a.astype(float) - b.astype(float)).max())
                continue
            finite = np.isfinite(a) & np.isfinite(b)
            gap = float(np.abs(a - b)[finite].max(initial=0))
            if gap > 1e-5 * max(1.0, float(np.abs(a[finite]).max(initial=0))):
                return case.name, name, gap
    return None


def same(one: Golden, other: Golden) -> bool:
    """Whether both hold the same inputs, and answers as near as two calls of one reference must be."""
    import numpy as np

    if [case.name for case in one.cases] != [case.name for case in other.cases]:
        return False
    pairs = list(zip(one.cases, other.cases, strict=True))
    parts = [(a, a.outputs, b.outputs) for a, b in pairs] + [(a, a.again or {}, b.again or {}) for a, b in pairs]
    if any(
        mine.keys() != others.keys() for _, mine, others in [*parts, *((a, a.inputs, b.inputs) for a, b in pairs)]
    ):
        return False
    inputs = all(np.array_equal(a.inputs[name], b.inputs[name]) for a, b in pairs for name in a.inputs)
    return inputs and _first_difference(parts) is None


def trim(golden: Golden, limit: int) -> Golden:
    """`golden` without its largest cases, so that it takes at most `limit` bytes; one case at least stays.

    A stateful reference is kept whole: its cases only make sense one after another.
    """
    if any(case.again is not None for case in golden.cases):
        return golden
    cases = list(golden.cases)
    while len(cases) > 1 and sum(map(_bytes, cases)) > limit:
        cases.remove(max(cases, key=_bytes))
    return replace(golden, cases=tuple(cases))


def _bytes(case: GoldenCase) -> int:
    return sum(array.nbytes for part in (case.inputs, case.outputs) for array in part.values())


def output_specs(golden: Golden, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Names, dtypes and shapes of the outputs, with the inputs' dims found again by their sizes.

    An axis whose size follows one dim in every case is that dim; one that never changes is fixed; any other
    gets a dim of its own.
    """
    sizes = [_sizes(case.inputs, inputs) for case in golden.cases]
    specs = []
    for name, first in golden.cases[0].outputs.items():
        shape: list[int | Dim] = []
        for axis in range(first.ndim):
            seen = [case.outputs[name].shape[axis] for case in golden.cases]
            matching = [
                dim for dim in dims_of(inputs) if all(s[dim.name] == n for s, n in zip(sizes, seen, strict=True))
            ]
            if len(set(seen)) == 1 and (len(golden.cases) > 1 or not dims_of(inputs)):
                shape.append(seen[0])
            else:
                shape.append(matching[0] if matching else Dim(f"{name}_dim{axis}", 0))
        specs.append(TensorSpec(name, first.dtype.name, tuple(shape)))
    return tuple(specs)


def _sizes(inputs: Arrays, specs: Sequence[TensorSpec]) -> dict[str, int]:
    return {
        size.name: inputs[spec.name].shape[axis]
        for spec in specs
        for axis, size in enumerate(spec.shape)
        if isinstance(size, Dim)
    }


# --------------------------------------------------------------------------------------- on disk


def save(golden: Golden, path: Path) -> None:
    """Write golden.npz: `INDEX CASE/in|out|again/NAME` → array, and `INDEX CASE/origin` → text.

    bfloat16 is stored as float32.
    """
    import numpy as np

    arrays: dict[str, Array] = {}
    for index, case in enumerate(golden.cases):
        key = f"{index:03d} {case.name}"
        arrays[f"{key}/origin"] = np.array(case.origin)
        parts = {"in": case.inputs, "out": case.outputs, "again": case.again or {}}
        for part, tensors in parts.items():
            for name, array in tensors.items():
                stored = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
                arrays[f"{key}/{part}/{name}"] = stored
    with path.open("wb") as stream:
        save_npz(arrays, stream)


def load(path: Path) -> Golden:
    """Read golden.npz. Raises ArtifactError when it is missing or damaged."""
    try:
        arrays = load_npz(path, NUMBERS + TEXT)
    except InputError as error:
        raise ArtifactError(f"the golden data is unreadable: {error.message}", "export the model again") from error
    cases: dict[str, dict[str, Arrays]] = {}
    for key, array in arrays.items():
        case, _, rest = key.partition("/")
        part, _, name = rest.partition("/")
        if part not in PARTS or (array.dtype.kind == TEXT) != (part == "origin"):
            raise ArtifactError(f"the golden data holds {key[:80]!r}, which is none", "export the model again")
        cases.setdefault(case, {}).setdefault(part, {})[name] = array
    return Golden(tuple(_case(key.partition(" ")[2], parts) for key, parts in sorted(cases.items())))


def _case(name: str, parts: Mapping[str, Arrays]) -> GoldenCase:
    origins = parts.get("origin")
    written = _origin_before(name) if origins is None else str(origins.get("", ""))
    if written not in get_args(Origin):
        raise ArtifactError(
            f"the golden data says that case {name[:80]!r} is {written[:80]!r}", "export the model again"
        )
    return GoldenCase(name, parts.get("in", {}), parts.get("out", {}), parts.get("again"), written)  # type: ignore[arg-type]


def _origin_before(name: str) -> Origin:
    """The origin of a case in a file of before origins were written: what its name said then."""
    kind = name.partition(" ")[0]
    return kind if kind in ("example", "sample", "calibration") else "drawn"  # type: ignore[return-value]
