"""The copy that holds a goal: what loses most is left out, as little of it as the goal takes."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelexport.contract import Trial, stage
from modelexport.toolkit import LeaveOut

from . import attempt, ranking
from .attempt import Work

if TYPE_CHECKING:
    from modelexport.contract import Goal

#: operators that are quantized again after the search: each takes another quantization of the whole file
_RETRIED = 4


def hold(work: Work, path: Path, goal: Goal | None) -> tuple[frozenset[str], tuple[Trial, ...]]:
    """Write the copy to `path`, with operators left out where a goal takes it.

    Returns what was left out besides what the user excluded, and what was tried. Where no trial holds the goal,
    the one that loses least is written.
    """
    attempt.write(work, path)
    if goal is None or goal.max_drop is None:
        return frozenset(), ()
    stage("measure what it loses")
    attempts = _Attempts(work, path, goal)
    trials = [Trial(work.mode, attempts.drop(frozenset()))]
    left: frozenset[str] | None = frozenset()
    if not goal.holds(attempts.drop(frozenset())):
        search = _search(work, path, goal, attempts)
        left = search.find(goal.max_drop)
        trials += search.trials
    if left is None:
        left = frozenset(min(trials, key=_drop).left)
    if left != attempts.written:
        attempt.write(work, path, left)
    return left, tuple(attempts.judged(trial, left) for trial in trials)


def _search(work: Work, path: Path, goal: Goal, attempts: _Attempts) -> LeaveOut:
    ranked = ranking.fragile(work, path, goal)
    attempts.written = None  # the ranking wrote trials of its own
    weights = {name: layer.weight.nbytes for name, layer in work.layers.items()}
    return LeaveOut(ranked, attempts.drop, weights, simulated=False, retried=_RETRIED)


@dataclass
class _Attempts:
    """Copies with other operators left out, each written and measured once; `written` is what the file has."""

    work: Work
    path: Path
    goal: Goal
    written: frozenset[str] | None = frozenset()
    drops: dict[frozenset[str], float] = field(default_factory=dict)
    sizes: dict[frozenset[str], int] = field(default_factory=dict)

    def drop(self, left: frozenset[str]) -> float:
        """How far the score falls with the operators `left` out."""
        if left not in self.drops:
            if left != self.written:
                attempt.write(self.work, self.path, left)
                self.written = left
            self.sizes[left] = self.path.stat().st_size
            self.drops[left] = attempt.drop(self.work, self.path, self.goal)
        return self.drops[left]

    def judged(self, trial: Trial, kept: Collection[str]) -> Trial:
        """The trial with the size of its copy and what became of it; a drop that is no number is None."""
        left = frozenset(trial.left)
        drop = _drop(trial)
        verdict = "" if self.goal.holds(drop) else "drops too much" if math.isfinite(drop) else "does not run"
        if left == kept:
            verdict = f"kept, though it {verdict}" if verdict else "kept"
        finite = drop if math.isfinite(drop) else None
        return replace(trial, drop=finite, size=self.sizes[left], verdict=verdict)


def _drop(trial: Trial) -> float:
    return math.inf if trial.drop is None else trial.drop
