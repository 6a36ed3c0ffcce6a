"""The golden data of a quantized copy: the artifact's own cases, and real samples answered by the artifact."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..contract.artifacts import Artifact
from ..contract.tensors import Dim
from ..gate import golden
from ..gate.golden import RANDOM
from .judge import CASES, DataSplit, Judge

if TYPE_CHECKING:
    from ..contract.sessions import Session
    from ..contract.tensors import Arrays
    from ..gate.golden import Golden, GoldenCase

#: share of an input's calibrated range by which a golden case may lie outside it, and still count
MARGIN = 0.05

#: the largest batch that golden cases of real samples are made at
LARGEST_BATCH = 17

Range = tuple[float, float]


def gate_cases(
    artifact: Artifact, data: DataSplit, judge: Judge | None, calibrated: bool
) -> tuple[Golden, tuple[str, ...]]:
    """The golden data of a copy of `artifact`, and warnings about what it had to leave out.

    It is the artifact's own and a few of the judged real samples. Where activation ranges were taken from the
    data, random cases would show saturation, and nothing else: they are left out, as are real ones outside the
    ranges of the inputs, and the ends of the batch dim are checked with real samples instead.
    """
    own = golden.load(artifact.golden)
    if judge is None or data.calibration is None or any(case.again is not None for case in own.cases):
        return own, ()  # a stateful model's answers hold in the order of its cases only
    samples = judge.goal.samples[:CASES]
    real = [_case(f"calibration {index}", sample, judge.reference) for index, sample in enumerate(samples)]
    if not calibrated:
        return replace(own, cases=(*own.cases, *real)), ()
    seen = _ranges(artifact, data.calibration)
    outside = {case.name: _outside(case, seen) for case in own.cases}
    left_out = [case for case in own.cases if outside[case.name] or not case.is_real]
    skipped = {case.name: _reason(outside[case.name]) for case in left_out}
    kept = [case for case in own.cases if case.name not in skipped]
    cases = (*kept, *real, *_batches(artifact, judge))
    return golden.Golden(cases, {**own.skipped, **skipped}), tuple(_warnings(seen, outside))


def _case(name: str, inputs: Arrays, reference: Session) -> GoldenCase:
    answers = {key: array.copy() for key, array in reference(inputs).items()}
    return golden.GoldenCase(name, inputs, answers, origin="calibration")


def _ranges(artifact: Artifact, samples: Iterable[Arrays]) -> dict[str, Range]:
    """Smallest and largest value of every floating-point input."""
    names = [spec.name for spec in artifact.inputs if "float" in spec.dtype]
    seen: dict[str, Range] = {}
    for sample in samples if names else ():
        for name in names:
            seen[name] = _joined(_range(sample[name]), seen.get(name))
    return seen


def _range(array: Any) -> Range:
    return (float(array.min()), float(array.max())) if array.size else (math.inf, -math.inf)


def _joined(one: Range, other: Range | None) -> Range:
    return one if other is None else (min(one[0], other[0]), max(one[1], other[1]))


def _outside(case: GoldenCase, seen: Mapping[str, Range]) -> dict[str, tuple[Range, Range]]:
    """Input → its range in the case and the one seen in calibration, where the first goes beyond the second."""
    beyond = {}
    for name, (low, high) in seen.items():
        own, margin = _range(case.inputs[name]), MARGIN * (high - low)
        if own[0] < low - margin or own[1] > high + margin:
            beyond[name] = (own, (low, high))
    return beyond


def _reason(beyond: Mapping[str, tuple[Range, Range]]) -> str:
    if not beyond:
        return RANDOM
    return "; ".join(
        f"{name!r} is {_span(own)}, calibration saw {_span(seen)}" for name, (own, seen) in beyond.items()
    )


def _span(values: Range) -> str:
    return f"{values[0]:.3g} to {values[1]:.3g}"


def _warnings(
    seen: Mapping[str, Range], outside: Mapping[str, Mapping[str, tuple[Range, Range]]]
) -> Iterator[str]:
    for name, calibrated in seen.items():
        cases = [beyond[name][0] for beyond in outside.values() if name in beyond]
        if cases:
            low, high = (min(low for low, _ in cases), max(high for _, high in cases))
            yield (
                f"input {name!r}: calibration saw {_span(calibrated)}, verification {_span((low, high))}: "
                f"{len(cases)} of the cases were left out, since values that far out saturate"
            )


def _batches(artifact: Artifact, judge: Judge) -> list[GoldenCase]:
    """Real samples at both ends of the batch dim, repeated as often as it takes; none without such a dim."""
    import numpy as np

    firsts = {spec.shape[0] if spec.shape else None for spec in artifact.inputs}
    dim = firsts.pop() if len(firsts) == 1 else None
    if not isinstance(dim, Dim):
        return []
    samples = judge.goal.samples
    alike = [sample for sample in samples if _shapes(sample) == _shapes(samples[0])]
    rows = {name: np.concatenate([sample[name] for sample in alike]) for name in samples[0]}
    cases = []
    for size in dict.fromkeys(batch_ends(dim)):
        repeated = {name: array[np.arange(size) % len(array)] for name, array in rows.items()}
        cases.append(_case(f"calibration {dim.name}={size}", repeated, judge.reference))
    return cases


def batch_ends(dim: Dim) -> Sequence[int]:
    """The smallest batch, and the largest that is worth its time."""
    low, most = dim.sizes[0], min(dim.max or LARGEST_BATCH, LARGEST_BATCH)
    return low, max(low, most // dim.multiple * dim.multiple)


def _shapes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: array.shape[1:] for name, array in arrays.items()}
