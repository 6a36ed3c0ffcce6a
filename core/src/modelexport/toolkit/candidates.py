"""A candidate beside the golden data, while a target still chooses: the gate judges again what it chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..contract.parity import Comparison
from ..contract.sessions import Session
from ..errors import MxError
from ..gate.compare import compare_all
from ..gate.golden import GoldenCase


@dataclass(frozen=True)
class Verdict:
    """Whether a candidate computes the same within the budget of `precision`.

    `worst` is the output that used most of its budget, None where nothing could be compared; `failure` says why
    the candidate does not run, where it doesn't.
    """

    precision: str
    worst: Comparison | None = None
    cases: int = 0
    failure: str = ""

    @property
    def ok(self) -> bool:
        return not self.failure and self.worst is not None and self.worst.ok

    def __str__(self) -> str:
        """What is wrong, in words; empty where nothing is."""
        if self.ok:
            return ""
        return self.failure or (str(self.worst) if self.worst is not None else "there are no cases to compare")


def verdict(
    candidate: Session,
    cases: Sequence[GoldenCase],
    precision: str,
    tolerance: Mapping[str, float] | None = None,
) -> Verdict:
    """Run `candidate` on `cases`, each twice, as the gate does."""
    try:
        compared = compare_all(candidate, cases, precision, tolerance or {})
    except MxError as error:
        return Verdict(precision, cases=len(cases), failure=error.message)
    worst = max(compared, key=lambda each: (not each.ok, each.used), default=None)
    return Verdict(precision, worst, len(cases))
