"""Which layers must stay at higher precision for a budget to hold, and no more than these.

As many of the most sensitive layers as it takes are left out, found by bisection; then each of them is quantized
again, where the budget allows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from ..contract import progress
from ..contract.quantization import Trial

#: layers that are quantized again, at most
RETRIED = 24


@dataclass
class LeaveOut:
    """A search among `ranked`, the layers that can be left out, the most sensitive first.

    `ranked`      may be a function, called where the search gets that far: ranking takes long
    `drop(left)`  what the score loses with those layers left out; infinite or NaN where the copy does not run.
                  It is called once for each set of layers
    `bytes_of`    what leaving a layer out costs: the costly ones are the first to be quantized again
    `simulated`   `drop` is of a simulation, not of a finished copy
    `retried`     layers that are quantized again, at most; 0 where a trial takes long
    `size`        the size of the copy that `drop` has just made, in bytes
    `trials`      what was tried
    """

    ranked: Sequence[str] | Callable[[], Sequence[str]]
    drop: Callable[[frozenset[str]], float]
    bytes_of: Mapping[str, int] = field(default_factory=dict)
    simulated: bool = True
    retried: int = RETRIED
    size: Callable[[], int] | None = None
    trials: list[Trial] = field(default_factory=list)
    _drops: dict[frozenset[str], float] = field(default_factory=dict)

    def hold(self, limit: float, what: str = "everything quantized") -> frozenset[str]:
        """The layers to leave out: none where a copy with `what` holds the limit, else as few as it takes.

        Where nothing holds it, those of the trial that loses least.
        """
        if self._drop(frozenset(), what) <= limit:
            return frozenset()
        left = self.find(limit)
        return frozenset(self.best().left) if left is None else left

    @cached_property
    def _layers(self) -> Sequence[str]:
        return self.ranked() if callable(self.ranked) else self.ranked

    def find(self, limit: float) -> frozenset[str] | None:
        """The layers to leave out for the drop to be `limit` at most; None where it takes all of them.

        That none have to be left out is not tried: whoever calls has seen that before.
        """
        low, high = 0, 1
        while high < len(self._layers) and self._try(high) > limit:
            low, high = high, high * 2
        high = min(high, len(self._layers))
        if high == len(self._layers) and (high <= 1 or self._try(high - 1) > limit):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._try(middle) <= limit else (middle, high)
        return self._shrink(set(self._layers[:high]), limit)

    def best(self) -> Trial:
        """The trial that lost least. Raises ValueError before the first."""
        return min(self.trials, key=_drop_of)

    def judged(self, kept: frozenset[str], limit: float) -> tuple[Trial, ...]:
        """The trials, each with what became of it, where the layers `kept` were left out in the end."""

        def verdict(trial: Trial) -> str:
            fault = "" if _drop_of(trial) <= limit else "does not run" if trial.drop is None else "drops too much"
            if frozenset(trial.left) == kept:
                return f"kept, though it {fault}" if fault else "kept"
            return fault or "holds"

        return tuple(replace(trial, verdict=verdict(trial)) for trial in self.trials)

    def _try(self, count: int) -> float:
        layers = "the most sensitive layer" if count == 1 else f"the {count} most sensitive layers"
        return self._drop(frozenset(self._layers[:count]), f"{layers} left out")

    def _drop(self, left: frozenset[str], what: str) -> float:
        if left not in self._drops:
            progress.count("search for the layers to leave out", len(self._drops))
            drop = self.drop(left)
            self._drops[left] = math.inf if math.isnan(drop) else drop
            named = tuple(name for name in self._layers if name in left) if left else ()
            finite = drop if math.isfinite(drop) else None
            size = self.size() if self.size is not None else None
            self.trials.append(Trial(what, finite, named, simulated=self.simulated, size=size))
        return self._drops[left]

    def _shrink(self, left: set[str], limit: float) -> frozenset[str]:
        """Quantize again what need not be left out, beginning with what it costs the most to leave."""
        costly = sorted((n for n in reversed(self._layers) if n in left), key=lambda n: -self.bytes_of.get(n, 0))
        for name in costly[: self.retried]:
            if len(left) > 1 and self._drop(frozenset(left - {name}), f"{name} quantized again") <= limit:
                left.discard(name)
        return frozenset(left)


def _drop_of(trial: Trial) -> float:
    return math.inf if trial.drop is None else trial.drop
