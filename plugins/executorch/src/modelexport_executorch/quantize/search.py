"""Which layers stay in float32: those that the user excludes and, with a goal, as few more as it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from modelexport.contract import Trial
from modelexport.toolkit import LeaveOut, stage, steps

from . import apply, rank
from .work import Work

if TYPE_CHECKING:
    from modelexport.contract import Goal

#: layers that are quantized again, at most: every trial prepares, calibrates and converts the whole program
RETRIED = 4

#: how much of the allowed drop a trial may use up: what the runtime computes differs a little from the simulation
MARGIN = 0.9


@dataclass(frozen=True)
class Choice:
    """The quantized module, the layers that it leaves in float32, and what was tried on the way."""

    module: Any
    left: frozenset[str]
    trials: tuple[Trial, ...] = ()


def choose(work: Work, goal: Goal | None) -> Choice:
    """Quantize all but the excluded layers; with a goal, leave out as few more as it takes for it to hold.

    Where nothing holds it, what drops least. Raises ConversionError where torchao can't quantize the program.
    """
    whole = Choice(_calibrated(work, work.excluded), work.excluded)
    if goal is None or goal.max_drop is None:
        return whole
    limit = MARGIN * goal.max_drop
    dropped = goal.drop(apply.simulated(work, whole.module))
    first = Trial(f"{work.mode} int{work.bits}", dropped, simulated=True)
    if dropped <= limit:
        return replace(whole, trials=_judged([first], frozenset(), limit))

    @cache  # the search comes back to what it has tried
    def drop(left: frozenset[str]) -> float:
        module = apply.quantized(work, work.excluded | left, work.samples)
        return goal.drop(apply.simulated(work, module))

    sizes = {name: layer.bytes for name, layer in work.layers.items()}
    search = LeaveOut(rank.most_harmful(work, goal), drop, sizes, retried=RETRIED, trials=[first])
    left = search.find(limit)
    if left is None:
        left = frozenset(search.best().left)
    trials = _judged(search.trials, left, limit)
    return Choice(_calibrated(work, work.excluded | left), work.excluded | left, trials)


def _calibrated(work: Work, left: frozenset[str]) -> Any:
    """The program's module quantized but for the layers `left`, told step by step."""
    stage(f"quantize in {work.bits} bits, {work.mode}")
    return apply.quantized(work, left, steps(work.samples, "calibrate"))


def _judged(trials: Sequence[Trial], left: frozenset[str], limit: float) -> tuple[Trial, ...]:
    """The trials, each with what became of it."""

    def verdict(trial: Trial) -> str:
        holds = trial.drop is not None and trial.drop <= limit
        if frozenset(trial.left) == left:
            return "kept" if holds else "drops too much, and least of all"
        return "holds" if holds else "drops too much"

    return tuple(replace(trial, verdict=verdict(trial)) for trial in trials)
