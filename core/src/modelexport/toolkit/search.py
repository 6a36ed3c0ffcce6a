"""Which layers must stay at higher precision for a budget to hold, and no more than these.

As many of the most sensitive layers as it takes are left out, found by bisection; then each of them is quantized
again, where the budget allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..contract import progress
from ..contract.quantization import Trial

#: layers that are quantized again, at most
RETRIED = 24


@dataclass
class LeaveOut:
    """A search among `ranked`, the layers that can be left out, the most sensitive first.

    `drop(left)` is what the score loses with those layers left out: of a finished copy, or of a simulation
    (`simulated`). `bytes_of` is what leaving a layer out costs: the costly ones are the first to be quantized
    again, `retried` of them at most, 0 where a trial takes long. `trials` keeps what was tried.
    """

    ranked: Sequence[str]
    drop: Callable[[frozenset[str]], float]
    bytes_of: Mapping[str, int] = field(default_factory=dict)
    simulated: bool = True
    retried: int = RETRIED
    trials: list[Trial] = field(default_factory=list)

    def find(self, limit: float) -> frozenset[str] | None:
        """The layers to leave out for the drop to be `limit` at most; None where it takes all of them.

        That none have to be left out is not tried: whoever calls has seen that before.
        """
        low, high = 0, 1
        while high < len(self.ranked) and self._try(high) > limit:
            low, high = high, high * 2
        high = min(high, len(self.ranked))
        if high == len(self.ranked) and (high <= 1 or self._try(high - 1) > limit):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._try(middle) <= limit else (middle, high)
        return self._shrink(set(self.ranked[:high]), limit)

    def best(self) -> Trial:
        """The trial that lost least. Raises ValueError before the first."""
        return min(self.trials, key=lambda trial: float("inf") if trial.drop is None else trial.drop)

    def _try(self, count: int) -> float:
        layers = "the most sensitive layer" if count == 1 else f"the {count} most sensitive layers"
        return self._drop(frozenset(self.ranked[:count]), f"{layers} left out")

    def _drop(self, left: frozenset[str], what: str) -> float:
        progress.count("search for the layers to leave out", len(self.trials))
        drop = self.drop(left)
        named = tuple(name for name in self.ranked if name in left)
        self.trials.append(Trial(what, drop, named, simulated=self.simulated))
        return drop

    def _shrink(self, left: set[str], limit: float) -> frozenset[str]:
        """Quantize again what need not be left out, beginning with what it costs the most to leave."""
        costly = sorted((n for n in reversed(self.ranked) if n in left), key=lambda n: -self.bytes_of.get(n, 0))
        for name in costly[: self.retried]:
            if len(left) > 1 and self._drop(frozenset(left - {name}), f"{name} quantized again") <= limit:
                left.discard(name)
        return frozenset(left)
