"""Contestants take turns, in an order that rotates: whatever disturbs the machine hits all of them alike."""

from __future__ import annotations

from collections.abc import Sequence

from ..gate import worker

#: how long one turn of one contestant aims to last, in seconds
TURN_SECONDS = 0.05


def take_turns(
    children: Sequence[worker.Child], guesses: Sequence[float], runs: int, seconds: float
) -> list[list[list[float]]]:
    """Times in seconds: contestant → turn → calls. Turns go on until each has enough calls and time."""
    blocks = [max(1, min(1000, int(TURN_SECONDS / max(guess, 1e-7)))) for guess in guesses]
    times: list[list[list[float]]] = [[] for _ in children]
    order = list(range(len(children)))
    while any(sum(map(len, own)) < runs or sum(map(sum, own)) < seconds for own in times):
        for index in order:
            answer = children[index].ask({"job": "bench-run", "calls": blocks[index]})
            times[index].append(answer["seconds"])
        order = order[1:] + order[:1]
    return times
