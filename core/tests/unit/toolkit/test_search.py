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
