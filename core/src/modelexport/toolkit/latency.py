"""Timing models against each other in turns, for the targets that keep only what is measured to be no slower.

What makes one turn slower than the next is the machine, so the models take turns and the best of each counts.
The benchmark reports latencies for people; this decides between two forms of one model, and is brief.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ConversionError
from ..gate.golden import GoldenCase

#: calls of each model at each shape before the first that is timed: runtimes compile and plan memory in these
WARMUP = 5

#: turns that the models take
TURNS = 15

#: seconds of one call above which three turns must do
SLOW = 0.3

#: seconds of one model's turn, unless one call takes longer
TURN_SECONDS = 0.03


def latency_ratios(calls: Sequence[Callable[[], Any]]) -> list[float]:
    """Latency of every call but the first, relative to the first's: below 1 is faster."""
    guesses = [min(_seconds(call, 1) for _ in range(WARMUP)) for call in calls]
    counts = [max(1, min(1000, int(TURN_SECONDS / max(guess, 1e-7)))) for guess in guesses]
    turns = [
        [_seconds(call, count) / count for call, count in zip(calls, counts, strict=True)]
        for _ in range(TURNS if max(guesses) < SLOW else 3)
    ]
    first, *others = (min(own) for own in zip(*turns, strict=True))
    return [other / first for other in others]


def _seconds(call: Callable[[], Any], count: int) -> float:
    begun = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - begun


def cases_to_time(cases: Sequence[GoldenCase]) -> list[GoldenCase]:
    """The example or the middle sizes, and the largest inputs there are. Raises ConversionError where none is."""
    if not cases:
        raise ConversionError("the artifact's golden data holds no cases to time", "export the model again")
    by_name = {case.name: case for case in cases}
    usual = by_name.get("example") or by_name.get("middle") or cases[0]
    largest = max(cases, key=lambda case: sum(array.size for array in case.inputs.values()))
    return list({id(case): case for case in (usual, largest)}.values())
