"""Which layers must stay at higher precision for the budget to hold, and no more than these.

Layers are ranked by what each alone does to the model's outputs. As many of the worst as it takes are left out,
found by bisection; then each of them is tried in 8 bits again. All that happens in the simulation; what it
finds is then built and measured, and looked for again under a stricter limit where the finished model falls short.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from modelexport.contract import Trial

from .simulate import Sensitivity

#: how much of the budget the simulation may use up at first, and at most of what it used before, each time after
MARGIN, STRICTER = 0.9, 0.7

#: layers that are tried in 8 bits again, at most
RETRIED = 24

#: finished models that are built, at most
BUILT = 5


@dataclass
class Search:
    """`simulated(left)` is the drop with those layers left; `ranked` the layers, the most sensitive first.

    `bytes_of` is what leaving a layer costs: the costly ones are the first to be quantized again.
    """

    ranked: Sequence[str]
    simulated: Callable[[frozenset[str]], float]
    bytes_of: Mapping[str, int]
    trials: list[Trial] = field(default_factory=list)

    def find(self, limit: float) -> frozenset[str] | None:
        """The layers to leave for the simulated drop to be `limit` at most; None when it takes all of them."""
        low, high = 0, 1
        while high < len(self.ranked) and self._try(high) > limit:
            low, high = high, high * 2
        high = min(high, len(self.ranked))
        if high == len(self.ranked) and self._try(high - 1) > limit:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._try(middle) <= limit else (middle, high)
        return self._shrink(set(self.ranked[:high]), limit)

    def _try(self, count: int) -> float:
        return self._drop(frozenset(self.ranked[:count]), f"the {count} most sensitive layers left")

    def _drop(self, left: frozenset[str], what: str) -> float:
        drop = self.simulated(left)
        self.trials.append(Trial(what, drop, tuple(n for n in self.ranked if n in left), simulated=True))
        return drop

    def _shrink(self, left: set[str], limit: float) -> frozenset[str]:
        """Quantize again what need not be left, beginning with what it costs the most to leave."""
        costly = sorted((n for n in reversed(self.ranked) if n in left), key=lambda n: -self.bytes_of.get(n, 0))
        for name in costly[:RETRIED]:
            if len(left) > 1 and self._drop(frozenset(left - {name}), f"{name} quantized again") <= limit:
                left.discard(name)
        return frozenset(left)


def ranking(sensitivities: Mapping[str, Sensitivity]) -> list[str]:
    """The most sensitive first: by the model's outputs, and where these are alike, by the layer's own."""
    return sorted(sensitivities, key=lambda name: (sensitivities[name].output, sensitivities[name].own))
