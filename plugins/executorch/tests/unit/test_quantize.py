"""Which layers stay in float32, and how that is told: the search and the account, on made-up layers."""

from types import SimpleNamespace

import pytest
from modelexport.contract import Goal
from modelexport_executorch import QuantizeOptions
from modelexport_executorch.quantize import report, search, work
from modelexport_executorch.quantize.layers import Layer


def layers(*kinds):
    return {f"{kind}{index}": Layer(f"node{index}", kind, (-1.0, 1.0), 400) for index, kind in enumerate(kinds)}


def asked(*kinds, mode="dynamic", bits=8, excluded=()):
    return work.Work(None, None, mode, bits, 32, layers(*kinds), frozenset(excluded), [])


def goal(max_drop):
    """A goal that a copy's own `drop` is measured by."""
    return Goal("toy", lambda session: -session, 0.0, "toy", max_drop)


@pytest.fixture
def tried(monkeypatch):
    """The sets of layers left out of what was quantized; a layer in integers costs 1, linear2 costs 10."""
    sets = []

    def quantized(job, left, samples):
        sets.append(frozenset(left))
        return SimpleNamespace(
            integers=set(job.layers) - left,
            drop=sum(10.0 if name == "linear2" else 1.0 for name in job.layers if name not in left),
        )

    monkeypatch.setattr(
        search,
        "apply",
        SimpleNamespace(quantized=quantized, simulated=lambda job, module: module.drop),
    )
    monkeypatch.setattr(
        search.rank,
        "most_harmful",
        lambda job, goal: sorted(set(job.layers) - job.excluded, key=lambda name: (name != "linear2", name)),
    )
    return sets


JOB = asked("linear", "linear", "linear", "linear", excluded=["linear0"])


def test_without_a_goal_all_but_the_excluded_are_quantized(tried):
    for wanted in (None, goal(None)):
        choice = search.choose(JOB, wanted)
        assert choice.left == {"linear0"}
        assert choice.trials == ()
    assert tried == [{"linear0"}] * 2


def test_a_goal_that_holds_at_once_ends_the_search(tried):
    choice = search.choose(JOB, goal(20.0))
    assert choice.left == {"linear0"}
    assert [(trial.what, trial.drop, trial.verdict) for trial in choice.trials] == [("dynamic int8", 12.0, "kept")]
    assert len(tried) == 1


def test_no_more_layers_are_left_than_it_takes(tried):
    choice = search.choose(JOB, goal(3.0))
    assert choice.left == {"linear0", "linear2"}
    assert choice.module.drop == 2.0
    assert [trial.left for trial in choice.trials if trial.verdict == "kept"] == [("linear2",)]
    assert all(trial.simulated for trial in choice.trials)


def test_a_simulation_may_use_up_less_than_all_that_is_allowed(tried):
    assert search.choose(JOB, goal(2.0)).left > {"linear0", "linear2"}


def test_no_set_of_layers_is_quantized_twice_but_the_one_that_is_kept(tried):
    search.choose(JOB, goal(1.5))
    assert len(tried) == len(set(tried)) + 1
    assert tried[-1] in tried[:-1]


def test_what_drops_least_is_kept_where_nothing_holds(tried):
    choice = search.choose(JOB, goal(0.5))
    assert choice.module.drop == min(trial.drop for trial in choice.trials) == 1.0
    (kept,) = (trial for trial in choice.trials if trial.verdict == "kept, though it drops too much")
    assert kept.drop == 1.0
    assert {trial.verdict for trial in choice.trials if trial is not kept} == {"drops too much"}


# --------------------------------------------------------------------------------------- what is asked


@pytest.mark.parametrize(
    ("kinds", "options", "mode"),
    [
        (["conv2d", "conv2d", "linear"], {}, "static"),
        (["conv2d", "linear"], {}, "dynamic"),
        (["embedding", "linear"], {}, "dynamic"),
        (["conv2d"], {"bits": 4}, "dynamic"),
        (["conv2d"], {"mode": "dynamic"}, "dynamic"),
        (["linear"], {"mode": "static"}, "static"),
    ],
)
def test_auto_is_static_for_nets_that_mostly_convolve(kinds, options, mode):
    assert work._mode(layers(*kinds), QuantizeOptions(**options)) == mode


# --------------------------------------------------------------------------------------- the account


@pytest.fixture
def account(monkeypatch):
    """The report of a job in which the layers `integers` became integers."""

    def make(job, integers, left=(), calibration=None):
        monkeypatch.setattr(report.apply, "integer_layers", lambda job, module: set(integers))
        choice = search.Choice(None, job.excluded | frozenset(left))
        return report.report(job, choice, calibration)

    return make


def test_each_layer_says_why_it_is_in_float32(account):
    job = asked("linear", "embedding", "conv2d", "linear", "linear", mode="static", excluded=["linear3"])
    summary = account(job, ["linear0"], left=["linear4"])
    assert {layer.name: (layer.precision, layer.note) for layer in summary.layers} == {
        "linear0": ("int8", ""),
        "embedding1": ("float32", "XNNPACK looks nothing up: tables stay as they are"),
        "conv2d2": ("float32", "XNNPACK's quantizer has no static form of this conv2d"),
        "linear3": ("float32", "excluded"),
        "linear4": ("float32", "it suffers most: it is left out"),
    }
    assert [layer.bytes_saved for layer in summary.layers] == [300, 0, 0, 0, 0]


def test_four_bits_are_for_linear_layers(account):
    summary = account(asked("linear", "conv2d", bits=4), ["linear0"])
    assert [(layer.precision, layer.bytes_saved) for layer in summary.layers] == [
        ("int4 weights", 350),
        ("float32", 0),
    ]
    assert summary.layers[1].note == "4 bits are for linear layers whose inputs come in whole groups"
    assert summary.settings["weights"] == "groups of 32"


def test_doubtful_ranges_are_warned_of(account):
    job = asked("conv2d", mode="static")
    assert any("--calibration" in line for line in account(job, []).warnings)
    assert account(job, [], calibration=range(5)).warnings == (
        "calibrated on 5 samples: a hundred or so calibrate well",
    )
    assert account(job, [], calibration=range(50)).warnings == ()
    assert account(asked("linear"), []).warnings == ()
    (line,) = account(asked("embedding", mode="static"), [], calibration=range(50)).warnings
    assert "compare with -k mode=dynamic" in line


def test_only_static_ranges_are_calibrated(account):
    assert account(asked("conv2d", mode="static"), [], calibration=range(50)).calibrated
    assert not account(asked("conv2d", mode="static"), []).calibrated
    assert not account(asked("conv2d"), [], calibration=range(50)).calibrated
