"""Work tells of itself to whoever asked, from wherever it is, and counts its steps."""

from pathlib import Path

import pytest
from modelexport.contract import Event, progress, stage, steps


def test_nobody_is_told_unless_somebody_asked():
    stage("alone")
    events = []
    with progress.telling(events.append):
        stage("heard")
    stage("alone again")
    assert events == [Event("heard")]


def test_steps_are_counted_as_they_are_done():
    events = []
    with progress.telling(events.append):
        seen = [(item, len(events)) for item in steps("abc", "letters")]
    assert seen == [("a", 1), ("b", 2), ("c", 3)], "an item is done when the next one is asked for"
    assert events == [Event("letters", done, 3) for done in range(4)]


def test_steps_of_what_has_no_length():
    events = []
    with progress.telling(events.append):
        list(steps(iter("ab"), "letters"))
        list(steps(iter("ab"), "letters", total=2))
    assert [event.total for event in events] == [None] * 3 + [2] * 3


def test_work_that_ends_early_has_told_what_was_done():
    events = []
    with progress.telling(events.append), pytest.raises(ValueError, match="the second"):
        for item in steps("abc", "letters"):
            if item == "b":
                raise ValueError("the second")
    assert [event.done for event in events] == [0, 1]


def test_events_read_as_lines():
    events = []
    with progress.telling(events.append):
        progress.count("trials", 2)
        progress.reused(Path("build/net.toy"))
    assert list(map(str, [Event("load"), Event("rows", 0, 5), *events])) == [
        "load",
        "rows: 0 of 5",
        "trials: 2",
        "reused build/net.toy (same model, options and tools)",
    ]
    assert events[-1].reused == Path("build/net.toy")


def test_of_two_who_ask_the_inner_one_is_told():
    outer, inner = [], []
    with progress.telling(outer.append):
        with progress.telling(inner.append):
            stage("inside")
        stage("outside")
    assert (list(map(str, outer)), list(map(str, inner))) == (["outside"], ["inside"])
