"""The copy that holds a goal: what loses most is left out, as little of it as the goal takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modelexport.contract import Trial
from modelexport.toolkit import LeaveOut, stage

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
    if goal is None or goal.max_drop is None:
        attempt.write(work, path)
        return frozenset(), ()
    stage("measure what it loses")

    def drop(left: frozenset[str]) -> float:
        attempt.write(work, path, left)
        return attempt.drop(work, path, goal)

    search = LeaveOut(
        lambda: ranking.fragile(work, path, goal),
        drop,
        {name: layer.weight.nbytes for name, layer in work.layers.items()},
        simulated=False,
        retried=_RETRIED,
        size=lambda: path.stat().st_size,
    )
    left = search.hold(goal.max_drop, work.mode)
    if left != frozenset(search.trials[-1].left):  # another copy was written since
        attempt.write(work, path, left)
    return left, search.judged(left, goal.max_drop)
