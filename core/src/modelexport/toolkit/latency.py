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

#: seconds after which a model's turn ends with the call that it is at
TURN_SECONDS = 0.03


def latency_ratios(calls: Sequence[Callable[[], Any]]) -> list[float]:
    """Latency of every call but the first, relative to the first's: below 1 is faster."""
    slowest = max(min(_seconds_a_call(call, 0) for _ in range(WARMUP)) for call in calls)
    turns = [
        [_seconds_a_call(call, TURN_SECONDS) for call in calls] for _ in range(TURNS if slowest < SLOW else 3)
    ]
    first, *others = (min(own) for own in zip(*turns, strict=True))
    return [other / first for other in others]


def _seconds_a_call(call: Callable[[], Any], turn: float) -> float:
    """The mean over one turn, which a busy machine makes no longer, unlike a number of calls."""
    calls, passed, begun = 0, 0.0, time.perf_counter()
    while not calls or passed < turn:
        call()
        calls, passed = calls + 1, time.perf_counter() - begun
    return passed / calls


def cases_to_time(cases: Sequence[GoldenCase]) -> list[GoldenCase]:
    """The example or the middle sizes, and the largest inputs there are. Raises ConversionError where none is."""
    if not cases:
        raise ConversionError("the artifact's golden data holds no cases to time", "export the model again")
    by_name = {case.name: case for case in cases}
    usual = by_name.get("example") or by_name.get("middle") or cases[0]
    largest = max(cases, key=lambda case: sum(array.size for array in case.inputs.values()))
    return list({id(case): case for case in (usual, largest)}.values())
