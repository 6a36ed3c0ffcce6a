"""The steps that lead to a target: found by formats, precisions made where they can be, files named for them."""

import pytest
from modelexport.contract import CAPTURED, MODULE, Target, Verb
from modelexport.errors import OptionError, TargetError
from modelexport.plugins import known
from modelexport.work import plan
from modelexport.work.plan import PlannedStep

INT8 = {
    "optimize": Verb(precisions={"int8": {}, "fp16": {"half": "true"}}),
    "quantize": Verb(precisions={"int8": {}}),
}

TARGETS = {
    target.name: target
    for target in (
        Target(CAPTURED, "", (MODULE,)),
        Target("graph", "", (CAPTURED,), INT8),
        Target("engine", "", ("graph",)),
        Target("own", "", ("graph",), {"quantize": Verb(precisions={"int8": {"own": "yes"}})}),
        Target("pressed", "", ("graph",), compiles={"int8": {"quantize": {"bits": "7"}}}),
        Target("packed", "", ("engine",)),
        Target("either", "", ("other", "graph")),
        Target("lost", "", ("nothing",)),
    )
}


def describe(name):
    if name not in TARGETS:
        raise TargetError(f"unknown target {name!r}")
    return TARGETS[name]


def route(name, precision=None, start=MODULE, adopted=False):
    return plan.route(name, precision, start, describe, adopted)


def read(found):
    """The steps as `target.verb`, with the options that the plan gives them."""
    return [
        f"{step.target}.{step.verb}" + "".join(f" {key}={value}" for key, value in step.options.items())
        for step in found.steps
    ]


@pytest.mark.parametrize(
    ("name", "start", "steps", "captures"),
    [
        ("captured", MODULE, ["captured.export"], False),
        ("graph", MODULE, ["graph.export"], True),
        ("graph", CAPTURED, ["graph.export"], False),
        ("graph", "graph", ["graph.export"], False),
        ("engine", MODULE, ["graph.export", "engine.export"], True),
        ("engine", "graph", ["engine.export"], False),
        ("packed", MODULE, ["graph.export", "engine.export", "packed.export"], True),
        ("either", MODULE, ["graph.export", "either.export"], True),
        ("either", "other", ["either.export"], False),
    ],
)
def test_formats_lead_to_the_target(name, start, steps, captures):
    found = route(name, start=start)
    assert (read(found), found.captures, found.quantizes) == (steps, captures, False)


@pytest.mark.parametrize(
    ("name", "precision", "steps"),
    [
        ("graph", "int8", ["graph.export", "graph.optimize", "graph.quantize"]),
        ("graph", "fp16", ["graph.export", "graph.optimize half=true"]),
        ("engine", "int8", ["graph.export", "graph.optimize", "graph.quantize", "engine.export"]),
        ("engine", "fp16", ["graph.export", "graph.optimize half=true", "engine.export"]),
        ("own", "int8", ["graph.export", "own.export", "own.quantize own=yes"]),
        ("own", "fp16", ["graph.export", "graph.optimize half=true", "own.export"]),
        ("pressed", "int8", ["graph.export", "graph.quantize bits=7", "pressed.export"]),
        ("pressed", "fp16", ["graph.export", "graph.optimize half=true", "pressed.export"]),
        ("packed", "int8", ["graph.export", "graph.optimize", "graph.quantize", "engine.export", "packed.export"]),
    ],
)
def test_a_precision_is_made_where_it_can_be(name, precision, steps):
    found = route(name, precision)
    assert read(found) == steps
    assert found.quantizes is any(".quantize" in step for step in steps)


def test_a_precision_of_what_is_there_already():
    """A file in the format is adopted first; an artifact is worked on as it is."""
    assert read(route("engine", "int8", "graph")) == [
        "graph.export", "graph.optimize", "graph.quantize", "engine.export",
    ]  # fmt: skip
    assert read(route("engine", "int8", "graph", adopted=True)) == [
        "graph.optimize", "graph.quantize", "engine.export",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["graph", "engine", "pressed", "packed", "captured"])
def test_a_precision_that_nothing_has(name):
    with pytest.raises(OptionError, match=f"target '{name}' has no precision 'int2'") as caught:
        route(name, "int2")
    assert caught.value.hint == ("it has none" if name == "captured" else "it has int8, fp16")


def test_no_way():
    with pytest.raises(TargetError, match="there is no way from 'module' to target 'lost'") as caught:
        route("lost")
    assert "it takes nothing" in caught.value.hint
    with pytest.raises(TargetError, match="there is no way from 'engine' to target 'graph'"):
        route("graph", start="engine")


def test_a_known_target_on_the_way_that_is_not_installed_is_the_reason(monkeypatch):
    monkeypatch.setitem(known.TARGETS, "nothing", ("a summary", "pip install nothing"))
    with pytest.raises(TargetError, match="unknown target 'nothing'"):
        route("lost")


def test_files_are_named_for_their_step():
    steps = [PlannedStep("graph", "export"), PlannedStep("graph", "quantize"), PlannedStep("engine", "export")]
    assert plan.names("engine", steps, "net", None) == ("net.graph", "net.quantized.graph", "net.engine")
    assert plan.names("engine", steps, "net", "int8") == ("net.graph", "net.quantized.graph", "net.int8.engine")
