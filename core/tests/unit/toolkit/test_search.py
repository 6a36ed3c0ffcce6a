"""The search leaves out as few layers as the budget takes, in few trials."""

import pytest
from modelexport.contract import progress
from modelexport.toolkit import LeaveOut

LAYERS = [f"l{n}" for n in range(64)]


def additive(costs):
    """A score that falls by the cost of every layer that is quantized."""
    return lambda left: sum(cost for name, cost in costs.items() if name not in left)


@pytest.mark.parametrize("harmful", [{"l0"}, {"l0", "l1", "l2"}, {"l3"}, {"l2", "l40"}])
def test_only_the_layers_that_do_harm_are_left_out(harmful):
    costs = dict.fromkeys(LAYERS, 0.0001) | dict.fromkeys(harmful, 1.0)
    search = LeaveOut(LAYERS, additive(costs), retried=64)
    assert search.find(0.01) == harmful
    assert len(search.trials) < 70


def test_without_retries_what_stands_before_the_last_harmful_layer_stays_out_too():
    costs = dict.fromkeys(LAYERS, 0.0) | {"l5": 1.0}
    search = LeaveOut(LAYERS, additive(costs), retried=0)
    assert search.find(0.5) == set(LAYERS[:6])
    assert len(search.trials) <= 8


def test_the_costly_layers_are_quantized_again_first():
    left_by_size = LeaveOut(LAYERS[:4], lambda left: 0.0 if len(left) >= 2 else 1.0, {"l0": 9, "l1": 5})
    assert left_by_size.find(0.5) == {"l0", "l1"}
    several = LeaveOut(LAYERS[:4], lambda left: 0.0 if {"l3"} & left else 1.0, {"l3": 1, "l0": 9})
    assert several.find(0.5) is None  # it takes the last as well: nothing would be quantized
    assert several.best().drop == 1.0


def test_none_where_it_takes_every_layer():
    assert LeaveOut(LAYERS, lambda left: 1.0).find(0.5) is None
    assert LeaveOut(["only"], lambda left: 0.0).find(0.5) is None
    assert LeaveOut([], lambda left: 0.0).find(0.5) is None


def test_a_goal_that_holds_at_once_leaves_nothing_out():
    search = LeaveOut(LAYERS, lambda left: 0.1)
    assert search.hold(0.5) == frozenset()
    assert [(trial.what, trial.verdict) for trial in search.judged(frozenset(), 0.5)] == [
        ("everything quantized", "kept")
    ]


def test_a_ranking_that_takes_long_is_made_where_it_is_needed():
    ranked = []

    def rank():
        ranked.append(1)
        return LAYERS

    assert LeaveOut(rank, lambda left: 0.0).hold(0.5) == frozenset()
    assert ranked == []
    assert LeaveOut(rank, additive({"l0": 1.0})).hold(0.5) == {"l0"}
    assert ranked == [1]


def test_a_goal_that_nothing_holds_keeps_what_loses_least():
    search = LeaveOut(LAYERS[:4], lambda left: 2.0 if len(left) == 1 else 3.0)
    kept = search.hold(0.5)
    assert kept == {"l0"}
    verdicts = {trial.left: trial.verdict for trial in search.judged(kept, 0.5)}
    assert verdicts[("l0",)] == "kept, though it drops too much"
    assert verdicts[()] == "drops too much"


def test_no_set_of_layers_is_tried_twice_and_sizes_are_those_of_the_copies():
    tried = []

    def drop(left):
        tried.append(left)
        return 1.0 if len(left) < 3 else 0.0

    search = LeaveOut(LAYERS[:4], drop, size=lambda: 10 + len(tried[-1]))
    kept = search.hold(0.5)
    assert len(tried) == len(set(tried)) == len(search.trials)
    assert all(trial.size == 10 + len(trial.left) for trial in search.trials)
    assert {trial.verdict for trial in search.judged(kept, 0.5)} == {"drops too much", "kept"}


@pytest.mark.parametrize("nothing", [float("nan"), float("inf")])
def test_a_copy_that_does_not_run_holds_nothing(nothing):
    search = LeaveOut(LAYERS[:8], lambda left: nothing if len(left) < 2 else 0.0, retried=0)
    kept = search.hold(0.5)
    assert len(kept) == 2
    first, *_ = search.judged(kept, 0.5)
    assert (first.drop, first.verdict) == (None, "does not run")


def test_trials_say_what_was_left_and_progress_counts_them():
    events = []
    with progress.telling(events.append):
        search = LeaveOut(LAYERS[:8], additive({"l0": 1.0, "l1": 1.0}), simulated=False)
        search.find(0.5)
    assert [event.done for event in events] == list(range(len(search.trials)))
    assert search.trials[0].left == ("l0",)
    assert search.trials[0].drop == 1.0
    assert not search.trials[0].simulated
    assert search.best().drop == 0
