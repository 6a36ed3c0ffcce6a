"""The score that a quantized copy is judged by, and how far it may fall."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .sessions import Session
    from .tensors import Arrays


@dataclass(frozen=True)
class Goal:
    """What a quantized copy is judged by, and how much it may lose.

    `score` is the metric's: called with a Session on the copy, it returns the score, which for the artifact
    itself was `baseline`. `max_drop` is None where nothing is promised. `data` says what it was taken on.
    """

    metric: str
    score: Callable[[Session], float]
    baseline: float
    data: str
    max_drop: float | None = None
    samples: Sequence[Arrays] = ()

    def drop(self, session: Session) -> float:
        """How much less than the artifact itself `session` scores; below 0 it scores more."""
        return self.baseline - self.score(session)

    def holds(self, drop: float) -> bool:
        return self.max_drop is None or drop <= self.max_drop
