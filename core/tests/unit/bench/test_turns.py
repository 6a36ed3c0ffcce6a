"""Contestants take turns, and none takes a core from the next."""

import threading
import time

from modelexport.bench import runner, turns


class Recorder:
    """Stands where a child process does, and writes down who was asked when."""

    def __init__(self, name, diary, seconds):
        self.name, self.diary, self.seconds = name, diary, seconds

    def ask(self, question):
        self.diary.append(self.name)
        return {"seconds": [self.seconds] * question["calls"]}


def test_contestants_take_turns_in_an_order_that_rotates():
    diary = []
    children = [Recorder(name, diary, seconds) for name, seconds in (("a", 0.01), ("b", 0.02), ("c", 0.0001))]
    times = turns.take_turns(children, [0.01, 0.02, 0.0001], runs=12, seconds=0.2)
    rounds = ["".join(diary[start : start + 3]) for start in range(0, len(diary), 3)]
    assert rounds[:4] == ["abc", "bca", "cab", "abc"]
    assert {len(own) for own in times} == {len(rounds)}  # the same number of turns each
    for own in times:
        assert sum(map(len, own)) >= 12
        assert sum(map(sum, own)) >= 0.2 - 1e-9
    assert len(times[0][0]) == 5  # a turn of 50 ms
    assert len(times[2][0]) == 500


def test_a_turn_ends_when_the_threads_of_the_contestant_sleep():
    """A thread that spins for a tenth of a second after the call would take a core from the next contestant."""
    ends = time.perf_counter() + 0.1

    def spin():
        while time.perf_counter() < ends:
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    runner.rest()
    assert not thread.is_alive()
    start = time.perf_counter()
    runner.rest()
    assert time.perf_counter() - start < 0.05
