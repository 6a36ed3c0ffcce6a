"""The search for what to leave out: the copy that is kept holds the goal, and little is left out of it."""

import math
from types import SimpleNamespace

import pytest
from modelexport.contract import Goal
from modelexport_tflite import QuantizeOptions
from modelexport_tflite.quantize import attempt, ranking, search

LAYERS = [f"layer{number}" for number in range(16)]


class Copies:
    """Stands for the quantizer: the file says what was left out of it, and costs are added up."""

    def __init__(self, monkeypatch, path, costs):
        self.costs, self.path, self.written = costs, path, 0
        monkeypatch.setattr(attempt, "write", self.write)
        monkeypatch.setattr(attempt, "drop", self.drop)
        monkeypatch.setattr(ranking, "fragile", self.fragile)

    def write(self, work, path, left=()):
        self.written += 1
        path.write_text(" ".join(["copy", *sorted(left)]))

    def left(self):
        return set(self.path.read_text().split()[1:])

    def drop(self, work, path, goal):
        return sum(cost for name, cost in self.costs.items() if name not in self.left())

    def fragile(self, work, path, goal):
        path.write_text("a trial of the ranking")
        return sorted(self.costs, key=lambda name: (-self.costs[name], LAYERS.index(name)))


@pytest.fixture
def hold(monkeypatch, tmp_path):
    def run(costs, max_drop):
        copies = Copies(monkeypatch, tmp_path / "model.tflite", dict.fromkeys(LAYERS, 0.0) | costs)
        work = SimpleNamespace(mode="static", options=QuantizeOptions(), layers={}, excluded=())
        goal = Goal("cosine", lambda _: 1.0, 1.0, "data", max_drop)
        return copies, *search.hold(work, copies.path, goal)

    return run


def test_without_a_goal_nothing_is_tried(hold):
    copies, left, trials = hold({"layer0": 1.0}, None)
    assert (copies.written, left, trials) == (1, frozenset(), ())


def test_a_goal_that_holds_at_once_takes_one_copy(hold):
    copies, left, (trial,) = hold({"layer0": 0.001}, 0.01)
    assert copies.written == 1
    assert left == frozenset()
    assert (trial.what, trial.verdict, trial.left) == ("static", "kept", ())


def test_no_more_is_left_out_than_the_goal_takes(hold):
    copies, left, trials = hold({"layer3": 1.0, "layer7": 0.5, "layer9": 0.02}, 0.03)
    assert left == {"layer3", "layer7"}
    assert copies.left() == left
    (kept,) = (trial for trial in trials if trial.verdict == "kept")
    assert set(kept.left) == left
    assert kept.drop == pytest.approx(0.02)
    assert trials[0].verdict == "drops too much"
    assert all(trial.size for trial in trials)


def test_no_copy_is_written_twice_for_nothing(hold):
    copies, _, trials = hold({"layer3": 1.0}, 0.03)
    tried = {frozenset(trial.left) for trial in trials}
    assert copies.written <= len(tried) + 1  # the one that is kept may have to be written again


def test_where_nothing_holds_the_best_trial_is_written(hold):
    copies, left, trials = hold(dict.fromkeys(LAYERS, 1.0), 0.5)
    assert copies.left() == left
    best = min(trials, key=lambda trial: trial.drop)
    assert set(best.left) == left
    assert best.verdict == "kept, though it drops too much"


def test_a_copy_that_does_not_run_is_never_kept(monkeypatch, hold):
    copies, left, trials = hold({"layer0": math.inf, "layer1": 0.001}, 5.0)
    assert left == {"layer0"}
    assert trials[0].drop is None
    assert trials[0].verdict == "does not run"
    assert copies.left() == {"layer0"}
