"""What a quantized copy is judged on: the user's data, split in two, or the golden cases where there is none.

`split_data` splits the data before any work, `judged` opens the artifact itself to compare with, and `score`
measures the finished copy. The golden data of the copy is put together in `golden_cases.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import usercode
from ..contract.artifacts import Artifact
from ..contract.quantization import QuantizationReport, Score
from ..errors import CannotRunHere, OptionError, ParityError, SourceError, a
from ..gate import compare, golden
from ..plugins import calls
from . import metrics

if TYPE_CHECKING:
    from ..contract.goal import Goal
    from ..contract.samples import Calibration
    from ..contract.sessions import Session
    from ..contract.tensors import Arrays

#: samples below which none are held out to judge on
SPLIT = 8

#: share of the samples that activation ranges are taken from; the copy is judged on the others
SHARE = 0.75

#: judged samples that the report's figures are taken on, and that become golden cases, at most
FIGURES, CASES = 16, 6


@dataclass(frozen=True)
class QualityGoal:
    """What the user wants of a quantized copy: how it is judged, and how much it may lose."""

    metric: str = "cosine"
    max_drop: float | None = None
    evaluate: Callable[[Session], float] | None = None

    @classmethod
    def read(cls, metric: str, max_drop: float | None, evaluate: Any) -> QualityGoal:
        """`evaluate` is a function or a reference to one, as `pkg.mod:score`. Raises OptionError."""
        metrics.check_metric(metric, evaluate, max_drop)
        return cls(metric, max_drop, _function(evaluate) if isinstance(evaluate, str) else evaluate)


def _function(ref: str) -> Callable[[Session], float]:
    hint = "give pkg.mod:score or file.py:score, a function of a Session that returns a number"
    if not usercode.names_object(ref):
        raise OptionError(f"--evaluate {ref} names no function", hint)
    try:
        function = usercode.import_object(ref)
    except SourceError as error:
        raise OptionError(f"--evaluate {ref}: {error.message}", error.hint) from error
    if not callable(function):
        raise OptionError(f"--evaluate {ref} is {a(type(function).__name__)}, not a function", hint)
    return function  # type: ignore[no-any-return]


# --------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class DataSplit:
    """The user's data, split in two.

    Ranges of activations are taken from `calibration`, None where there is no data; the copy is judged on
    `inputs`. `what` says in words what these are, and `notes` are lines that the user should see.
    """

    calibration: Calibration | None
    inputs: Iterable[Arrays]
    what: str
    notes: tuple[str, ...] = ()

    @property
    def real(self) -> bool:
        return self.calibration is not None


def split_data(artifact: Artifact, calibration: Calibration | None) -> DataSplit:
    """Split the user's samples, three quarters to calibrate on; a few samples serve for both."""
    if calibration is None:
        inputs = [case.inputs for case in golden.load(artifact.golden).cases]
        return DataSplit(None, inputs, "golden cases: random inputs, not real data")
    notes = tuple(calibration.notes)
    if len(calibration) < SPLIT:
        return DataSplit(calibration, calibration, f"samples of {calibration.ref}, calibrated on as well", notes)
    calibrated, held_out = calibration.split(SHARE)
    return DataSplit(calibrated, held_out, f"held-out samples of {calibration.ref}", notes)


# --------------------------------------------------------------------------------------- judging


@dataclass(frozen=True)
class Judge:
    """The goal, and a session on the artifact itself."""

    goal: Goal
    reference: Session


@contextmanager
def judged(artifact: Artifact, data: DataSplit, wanted: QualityGoal) -> Iterator[Judge | None]:
    """The judge of copies of `artifact`; None where this machine can't run it, and nothing was promised."""
    try:
        session = _open(artifact)
    except CannotRunHere:
        if wanted.max_drop is not None or wanted.evaluate is not None:
            raise
        yield None
        return
    with session:
        inputs: Iterable[Arrays] = data.inputs if data.real else (compare.native(session, i) for i in data.inputs)
        with metrics.goal(
            artifact, session, inputs, data.what,
            metric=wanted.metric, evaluate=wanted.evaluate, max_drop=wanted.max_drop,
        ) as goal:  # fmt: skip
            yield Judge(goal, session)


def _open(artifact: Artifact) -> Session:
    """A session on `artifact`, or on what stands in for it where this machine can't run it.

    Raises CannotRunHere where nothing does.
    """
    try:
        return calls.open_session(artifact, {})
    except CannotRunHere:
        other = artifact.stand_in
        if other is None:
            raise
        return calls.open_session(
            replace(artifact, format=other.format, entry=other.entry, details=other.details), {}
        )


def score(judge: Judge, copy: Artifact) -> Score:
    """The accuracy of a finished copy."""
    goal = judge.goal
    with _open(copy) as session:
        drop = goal.drop(session)
        figures = metrics.figures(session, goal.samples[:FIGURES], judge.reference)
    return Score(
        metric=goal.metric,
        baseline=_finite(goal.baseline),
        score=_finite(goal.baseline - drop),
        drop=_finite(drop),
        max_drop=goal.max_drop,
        data=goal.data,
        samples=len(goal.samples),
        figures={name: {key: _finite(value) for key, value in own.items()} for name, own in figures.items()},
    )


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None


def shortfall(report: QuantizationReport) -> ParityError | None:
    """The error to raise for a copy that lost more than it may, with what else was tried."""
    score = report.score
    if score is None or score.max_drop is None or score.holds:
        return None
    drop = "no finite score" if score.drop is None else f"a drop of {score.drop:.4g}"
    tried = [f"{trial.what}: {trial.drop:.3g}" for trial in report.trials if trial.drop is not None]
    return ParityError(
        f"the best copy found has {drop} in {score.metric}, --max-drop allows {score.max_drop:g}",
        (f"drops of what was tried last: {'; '.join(tried[-3:])}; " if tried else "")
        + "allow a larger drop, or leave more of the model at its precision",
    )
