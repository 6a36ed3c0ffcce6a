"""What a quantized copy is judged on: the user's data, split in two, or the golden cases where there is none.

`gather` opens the data before any work, `judged` opens the artifact itself to compare with, and `gate_cases`
puts together the golden data of the copy: the artifact's own, and real samples answered by the artifact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from . import accuracy, golden, parity
from . import source as sources
from .errors import CannotRunHere, OptionError, ParityError, SourceError
from .types import Artifact, Dim

if TYPE_CHECKING:
    from .accuracy import Goal
    from .calibration import Calibration
    from .golden import Golden, GoldenCase
    from .quantization import Report
    from .types import Arrays, Session

#: samples below which none are held out to judge on
SPLIT = 8

#: share of the samples that activation ranges are taken from; the copy is judged on the others
SHARE = 0.75

#: judged samples that the report's figures are taken on, and that become golden cases, at most
FIGURES, CASES = 16, 6

#: share of an input's calibrated range by which a golden case may lie outside it, and still count
MARGIN = 0.05

#: the largest batch that golden cases of real samples are made at
LARGEST_BATCH = 17

#: why a random case is left out of the gate of what was calibrated
RANDOM = "random inputs, which say nothing about ranges taken from real ones"

Range = tuple[float, float]


@dataclass(frozen=True)
class Wish:
    """What the user wants of a quantized copy: how it is judged, and how much it may lose."""

    metric: str = "cosine"
    max_drop: float | None = None
    evaluate: Callable[[Session], float] | None = None

    @classmethod
    def read(cls, metric: str, max_drop: float | None, evaluate: Any) -> Wish:
        """`evaluate` is a function or a reference to one, as `pkg.mod:score`. Raises OptionError."""
        accuracy.check_metric(metric, evaluate, max_drop)
        return cls(metric, max_drop, _function(evaluate) if isinstance(evaluate, str) else evaluate)


def _function(ref: str) -> Callable[[Session], float]:
    hint = "give pkg.mod:score or file.py:score, a function of a Session that returns a number"
    if not sources.names_object(ref):
        raise OptionError(f"--evaluate {ref} names no function", hint)
    try:
        found = sources.import_object(ref)
    except SourceError as error:
        raise OptionError(f"--evaluate {ref}: {error.message}", error.hint) from error
    if not callable(found):
        raise OptionError(f"--evaluate {ref} is a {type(found).__name__}, not a function", hint)
    return found  # type: ignore[no-any-return]


# --------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class Data:
    """`calibration`: what ranges are taken from, if anything; `inputs`: what the copy is judged on; `what`: both
    of it in words."""

    calibration: Calibration | None
    inputs: Iterable[Arrays]
    what: str
    notes: tuple[str, ...] = ()

    @property
    def real(self) -> bool:
        return self.calibration is not None


def gather(artifact: Artifact, calibration: Calibration | None) -> Data:
    """Split the user's samples, three quarters to calibrate on; a few samples serve for both."""
    if calibration is None:
        inputs = [case.inputs for case in golden.load(artifact.golden).cases]
        return Data(None, inputs, "golden cases: random inputs, not real data")
    notes = tuple(calibration.notes)
    if len(calibration) < SPLIT:
        return Data(calibration, calibration, f"samples of {calibration.ref}, calibrated on as well", notes)
    calibrated, held_out = calibration.split(SHARE)
    return Data(calibrated, held_out, f"held-out samples of {calibration.ref}", notes)


# --------------------------------------------------------------------------------------- judging


@dataclass(frozen=True)
class Judge:
    """The goal, and a session on the artifact itself."""

    goal: Goal
    reference: Session


@contextmanager
def judged(artifact: Artifact, data: Data, wish: Wish) -> Iterator[Judge | None]:
    """The judge of copies of `artifact`; None where this machine can't run it, and nothing was promised."""
    try:
        session = _open(artifact)
    except CannotRunHere:
        if wish.max_drop is not None or wish.evaluate is not None:
            raise
        yield None
        return
    with session:
        inputs: Iterable[Arrays] = data.inputs if data.real else (parity.native(session, i) for i in data.inputs)
        with accuracy.goal(
            artifact, session, inputs, data.what,
            metric=wish.metric, evaluate=wish.evaluate, max_drop=wish.max_drop,
        ) as goal:  # fmt: skip
            yield Judge(goal, session)


def _open(artifact: Artifact) -> Session:
    """A session on `artifact`, or on what stands in for it where this machine can't run it.

    `details["stands_in"]` names a file in its folder that another target runs, and computes the same: the model
    that an engine was built from; `details` there are those that the other target's session reads. Raises
    CannotRunHere where there is none.
    """
    from . import api

    try:
        return api.open_session(artifact, {})
    except CannotRunHere:
        other = artifact.details.get("stands_in")
        if not isinstance(other, Mapping):
            raise
        return api.open_session(
            replace(artifact, format=other["format"], entry=other["entry"], details=other.get("details", {})), {}
        )


def score(judge: Judge, copy: Artifact) -> dict[str, Any]:
    """The accuracy of a finished copy, as its report keeps it: see docs/reference/manifest.md."""
    goal = judge.goal
    with _open(copy) as session:
        drop = goal.drop(session)
        figures = accuracy.figures(session, goal.samples[:FIGURES], judge.reference)
    found = {
        "metric": goal.metric,
        "baseline": goal.baseline,
        "score": goal.baseline - drop,
        "drop": drop,
        "max_drop": goal.max_drop,
        "data": goal.data,
        "samples": len(goal.samples),
        "figures": figures,
    }
    return {key: _finite(value) for key, value in found.items()}


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: a figure that is none is null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def shortfall(report: Report) -> ParityError | None:
    """The error to raise for a copy that lost more than it may, with what else was tried."""
    score, allowed = report.score, report.score.get("max_drop")
    if allowed is None or (score["drop"] is not None and score["drop"] <= allowed):
        return None
    drop = "no finite score" if score["drop"] is None else f"a drop of {score['drop']:.4g}"
    tried = [f"{trial.what}: {trial.drop:.3g}" for trial in report.trials if trial.drop is not None]
    return ParityError(
        f"the best copy found has {drop} in {score['metric']}, --max-drop allows {allowed:g}",
        (f"drops of what was tried last: {'; '.join(tried[-3:])}; " if tried else "")
        + "allow a larger drop, or leave more of the model at its precision",
    )


# --------------------------------------------------------------------------------------- golden cases


def gate_cases(
    artifact: Artifact, data: Data, judge: Judge | None, calibrated: bool
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
    left_out = [case for case in own.cases if outside[case.name] or not is_real(case)]
    skipped = {case.name: _reason(outside[case.name]) for case in left_out}
    kept = [case for case in own.cases if case.name not in skipped]
    cases = (*kept, *real, *_batches(artifact, judge))
    return golden.Golden(cases, {**own.skipped, **skipped}), tuple(_warnings(seen, outside))


def is_real(case: GoldenCase) -> bool:
    """Whether a case is the user's: their sample, or the source's example."""
    return case.name == "example" or case.name.startswith("sample ")


def _case(name: str, inputs: Arrays, reference: Session) -> GoldenCase:
    return golden.GoldenCase(name, inputs, {key: array.copy() for key, array in reference(inputs).items()})


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
    found = {}
    for name, (low, high) in seen.items():
        own, margin = _range(case.inputs[name]), MARGIN * (high - low)
        if own[0] < low - margin or own[1] > high + margin:
            found[name] = (own, (low, high))
    return found


def _reason(found: Mapping[str, tuple[Range, Range]]) -> str:
    if not found:
        return RANDOM
    return "; ".join(
        f"{name!r} is {_span(own)}, calibration saw {_span(seen)}" for name, (own, seen) in found.items()
    )


def _span(values: Range) -> str:
    return f"{values[0]:.3g} to {values[1]:.3g}"


def _warnings(
    seen: Mapping[str, Range], outside: Mapping[str, Mapping[str, tuple[Range, Range]]]
) -> Iterator[str]:
    for name, calibrated in seen.items():
        cases = [found[name][0] for found in outside.values() if name in found]
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
