"""Quantized first, compiled last: a target that consumes another takes the precisions of that one.

`rounder` quantizes; `packer` consumes it without a word about precisions, `presser` says how it wants int8.
"""

import modelexport
import pytest
from modelexport.errors import ArtifactError, OptionError
from modelexport.gate import golden
from modelexport.gate.budgets import BUDGETS

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture
def export(rounded, tmp_path):
    def run(targets, precision="int8", **more):
        source = f"{rounded / 'net.py'}:net"
        return modelexport.export(source, targets, tmp_path / "build", precision=precision, **more)

    return run


def names(tmp_path):
    return sorted(path.name for path in (tmp_path / "build").iterdir())


def test_one_artifact_is_compiled_and_it_is_the_quantized_one(export, steps, tmp_path):
    (made,) = export("packer")
    assert steps() == ["export rounder", "optimize rounder", "quantize rounder", "export packer"]
    assert names(tmp_path) == ["net.int8.packer"]
    assert made.details["made_of"] == "int8"
    assert [(step.verb, step.target) for step in made.lineage] == [
        ("export", "rounder"), ("optimize", "rounder"), ("quantize", "rounder"), ("export", "packer"),
    ]  # fmt: skip


def test_precision_and_budget_are_those_of_what_was_compiled(export):
    """`Build.precision` is None: nobody has to give a tolerance for what the rounding costs."""
    (made,) = export("packer")
    assert (made.precision, made.parity.verified) == ("int8", True)
    assert {row.budget for row in made.parity.outputs} == {BUDGETS["int8"]}
    assert made.quantization is not None
    assert made.quantization.mode == "weights"
    (plain,) = export("packer", precision=None)
    assert (plain.precision, plain.quantization) == ("float32", None)
    assert {row.budget for row in plain.parity.outputs} == {BUDGETS["float32"]}


def test_a_target_may_say_how_the_format_on_the_way_is_quantized(export, steps):
    (made,) = export("presser")
    assert steps() == ["export rounder", "quantize rounder", "export presser"]
    assert made.lineage[1].options == {"mode": "weights", "bits": 7, "find": False}
    assert (made.precision, made.details["made_of"]) == ("int8", "int8")


def test_a_precision_that_it_does_not_name_is_made_in_the_formats_own_way(export, steps):
    (made,) = export("presser", precision="fp16")
    assert steps() == ["export rounder", "optimize rounder", "export presser"]
    assert (made.precision, made.parity.verified) == ("float16", True)


def test_targets_that_share_the_quantized_step_quantize_once(export, steps, tmp_path):
    packed, rounded = export(["packer", "rounder"])
    assert steps() == ["export rounder", "optimize rounder", "quantize rounder", "export packer"]
    assert names(tmp_path) == ["net.int8.packer", "net.int8.rounder", "net.optimized.rounder", "net.rounder"]
    assert (packed.path / "model.packed").read_bytes() == (rounded.path / "model.npz").read_bytes()
    assert packed.lineage[:-1] == rounded.lineage


def test_targets_that_consume_the_same_step_share_it(export, steps, tmp_path):
    packed, pressed = export(["packer", "presser"], precision="fp16")
    assert steps() == ["export rounder", "optimize rounder", "export packer", "export presser"]
    assert names(tmp_path) == ["net.fp16.packer", "net.fp16.presser"]
    assert packed.lineage[:-1] == pressed.lineage[:-1]


def test_targets_that_want_it_otherwise_share_what_they_can(export, steps, tmp_path):
    packed, pressed = export(["packer", "presser"])
    made = steps()
    assert made.count("export rounder") == 1
    assert made.count("quantize rounder") == 2
    assert (packed.path / "model.packed").read_bytes() != (pressed.path / "model.pressed").read_bytes()
    assert names(tmp_path) == ["net.int8.packer", "net.int8.presser"]


def test_what_is_compiled_was_judged_on_the_users_data(export, rounded):
    """The compiled copy is held against the cases of the quantized one, without those that only saturate."""
    (made,) = export("packer", options={"mode": "static"}, calibration=rounded / "x.npz", max_drop=0.01)
    assert made.parity.verified is True
    assert {"calibration 0", "calibration batch=17"} <= set(made.parity.cases)
    assert "middle" not in made.parity.cases
    assert "'x' is -" in made.parity.skipped["middle"]
    assert [case.name for case in golden.load(made.golden).cases] == list(made.parity.cases)
    assert made.quantization.score.max_drop == 0.01


def test_an_artifact_of_the_format_on_the_way_is_taken_as_it_is(rounded, steps, tmp_path):
    """A float one is quantized, not exported again; a quantized one is compiled."""
    (made,) = modelexport.export(rounded / "net.rounder", "packer", tmp_path / "build", precision="int8")
    assert steps() == ["optimize rounder", "quantize rounder", "export packer"]
    assert (made.path.name, made.precision) == ("net.int8.packer", "int8")
    quantized = modelexport.quantize(rounded / "net.rounder", tmp_path / "q.rounder")
    steps()
    (made,) = modelexport.export(quantized.path, "packer", tmp_path / "build", name="own")
    assert steps() == ["export packer"]
    assert (made.precision, made.parity.verified) == ("int8", True)


def test_a_quantized_artifact_has_its_precision_and_no_other(rounded, steps, tmp_path):
    """It is compiled as it is: quantized again, it would lose twice and be held against a float budget."""
    quantized = modelexport.quantize(rounded / "net.rounder", tmp_path / "q.rounder").path
    steps()
    (made,) = modelexport.export(quantized, "packer", tmp_path / "build", precision="int8")
    assert steps() == ["export packer"]
    assert (made.path.name, made.precision, made.parity.verified) == ("q.packer", "int8", True)
    with pytest.raises(ArtifactError, match=r"q\.rounder is quantized already: it is int8") as raised:
        modelexport.export(quantized, "packer", tmp_path / "build", precision="fp16")
    assert "quantize that one" in raised.value.hint
    with pytest.raises(OptionError, match="is int8 already: calibration data and goals do not apply"):
        modelexport.export(
            quantized, "packer", tmp_path / "build", precision="int8", calibration=rounded / "x.npz"
        )
    assert steps() == []


def test_a_precision_that_nothing_on_the_way_has_is_refused_before_any_work(export, steps, tmp_path):
    with pytest.raises(OptionError, match="target 'packer' has no precision 'int2'") as caught:
        export("packer", precision="int2")
    assert caught.value.hint == "it has int8, fp16"
    assert steps() == []
    assert not (tmp_path / "build").exists()
