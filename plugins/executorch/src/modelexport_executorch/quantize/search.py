"""Which layers stay in float32: those that the user excludes and, with a goal, as few more as it takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
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
    stage(f"quantize in {work.bits} bits, {work.mode}")

    @lru_cache(maxsize=1)  # the last that was tried is often the one that is kept
    def quantized(left: frozenset[str]) -> Any:
        return apply.quantized(work, work.excluded | left, steps(work.samples, "calibrate"))

    if goal is None or goal.max_drop is None:
        return Choice(quantized(frozenset()), work.excluded)

    def drop(left: frozenset[str]) -> float:
        return goal.drop(apply.simulated(work, quantized(left)))

    limit = MARGIN * goal.max_drop
    sizes = {name: layer.bytes for name, layer in work.layers.items()}
    search = LeaveOut(lambda: rank.most_harmful(work, goal), drop, sizes, retried=RETRIED)
    left = search.hold(limit, f"{work.mode} int{work.bits}")
    return Choice(quantized(left), work.excluded | left, search.judged(left, limit))
