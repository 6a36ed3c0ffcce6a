"""Targets that are made from another target's files, and that the machine which builds them can't run.

The targets are third-party ones that a test installs (tests/toys): `stamper` takes what `writer` writes.
"""

import json

import modelexport
import pytest
from modelexport.contract import by_kind
from modelexport.errors import CannotRunHere, ParityError
from modelexport.plugins import manager
from modelexport.store import manifest

INPUTS = ["x:float32[batch=1..8,4]", "ids:int64[batch=1..8,seq=1..6]=0..9"]


@pytest.fixture
def smithy(install_toys):
    return install_toys("writer", "stamper")


def test_a_chain_leaves_only_what_was_asked_for(smithy, nets, tmp_path):
    (made,) = modelexport.export(nets("two", "two"), "stamper", tmp_path, inputs=INPUTS)
    assert [path.name for path in tmp_path.iterdir()] == ["two.stamper"]
    assert made.details["verified before"] is True  # the artifact it was made from had passed its gate
    assert [(step.verb, step.target) for step in made.lineage] == [("export", "writer"), ("export", "stamper")]
    assert manifest.read(tmp_path / "two.stamper") == made


def test_what_can_not_run_here_is_verified_as_structure(smithy, nets, tmp_path, mx):
    modelexport.export(nets("two", "two"), "stamper", tmp_path, inputs=INPUTS)
    made = manifest.read(tmp_path / "two.stamper")
    assert made.parity.verified == "structure"
    assert "no anvil" in made.parity.reason
    with pytest.raises(CannotRunHere):
        modelexport.run(made.path)
    refused = mx("run", made.path, "--input", "x=1", "--input", "ids=1")
    assert refused.code != 0
    assert "no anvil" in refused.error
    assert refused.hint == "take it to a smithy"


def test_a_format_on_the_way_is_made_once(smithy, nets, tmp_path):
    """The one asked for by name is the one that the other is made from, whatever their order."""
    source = nets("two", "two")
    made = modelexport.export(source, ["stamper", "writer"], tmp_path, inputs=INPUTS, options={"escape": False})
    assert [artifact.format for artifact in made] == ["stamper", "writer"]
    stamped, written = made
    assert (stamped.path / "stamped.bin").read_bytes() == (written.path / "program.pt2").read_bytes()


def test_a_format_on_the_way_that_falls_short_is_left_for_inspection(smithy, nets, tmp_path):
    with pytest.raises(ParityError) as caught:
        modelexport.export(nets("two", "two"), "stamper", tmp_path, inputs=INPUTS, tolerance={"cosine": 2.0})
    (left,) = tmp_path.iterdir()
    assert left.name == "two.stamper.writer.failed"
    assert str(left) in caught.value.hint
    assert manifest.read(left).parity.verified is False


def test_a_precision_may_be_an_option_of_the_export(smithy, nets, tmp_path):
    (made,) = modelexport.export(nets("two", "two"), "stamper", tmp_path, inputs=INPUTS, precision="int8")
    assert made.path.name == "two.int8.stamper"
    assert made.precision == "int8"
    assert made.lineage[-1].options["stamp"] == "gold"


def test_a_chain_by_way_of_another_format_is_reused(smithy, nets, tmp_path, mx):
    def again(*more):
        given = ["--input", INPUTS[0], "--input", INPUTS[1], "--precision", "int4", "-o", tmp_path, *more]
        return mx("export", nets("two", "two"), "-t", "stamper", *given).out

    assert "reused" not in again()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["two.int4.stamper", "two.stamper"]
    assert again().count("reused") == 2
    other = again("-k", "stamp=gold")
    assert "two.int4.stamper" in other
    assert "reused" not in other


def test_targets_says_what_this_machine_lacks(smithy, mx):
    rows = {row["name"]: row for row in mx("targets", "--json").json["targets"]}
    assert rows["stamper"]["status"] == "ahead of time"
    assert rows["stamper"]["verbs"] == "export, quantize"
    assert "builds ahead of time; cannot run here: no anvil" in rows["stamper"]["note"]
    assert rows["writer"]["status"] == "ready"
    assert "no anvil" in mx("targets").out


def test_a_hook_that_fails_is_a_broken_plugin(install_toys, mx, monkeypatch):
    install_toys("stamper")
    plugin = manager.target("stamper")

    def failing():
        raise OSError("no such device")

    monkeypatch.setattr(plugin.hook.mx_machine.get_hookimpls()[0], "function", failing)
    rows = {row["name"]: row for row in mx("targets", "--json").json["targets"]}
    assert rows["stamper"]["status"] == "broken"
    assert "no such device" in rows["stamper"]["note"]


def test_inspect_shows_the_layers(smithy, nets, tmp_path, mx):
    (made,) = modelexport.export(nets("two", "two"), "stamper", tmp_path, inputs=INPUTS, verify=False)
    assert by_kind(made.layers) == {"rub": {"int8": 3}, "blow": {"float32": 1}, "pause": {"": 1}}
    shown = mx("inspect", made.path).out
    assert "polish.2" in shown
    assert "add + mul" in shown
    assert "computes nothing: 1 pause" in shown
    drawn = tmp_path / "layers.svg"
    assert mx("inspect", made.path, "--plot", drawn).code == 0
    text = drawn.read_text()
    assert all(word in text for word in ("rub", "blow", "int8", "float32", "two.stamper: 4 layers"))
    assert json.loads(mx("inspect", made.path, "--json").out)["details"]["layers"][0]["kind"] == "blow"


def test_a_plot_of_what_lists_no_layers(artifact, tmp_path, mx):
    refused = mx("inspect", artifact, "--plot", tmp_path / "layers.png")
    assert refused.code == 2
    assert "lists no layers" in refused.err
    assert not (tmp_path / "layers.png").exists()


CONTRACT = """
from modelexport.testing import TargetContract


class TestStamper(TargetContract):
    target = "stamper"
    ahead_of_time = {reason!r}
"""


def test_the_kit_skips_what_needs_the_machine_where_the_contract_says_so(smithy, tmp_path):
    from modelexport.testing import contract, report

    file = tmp_path / "test_contract.py"
    file.write_text(CONTRACT.format(reason="it takes an anvil"))
    outcomes = report.run("stamper", file).outcomes
    skipped = {name for name, outcome in outcomes.items() if outcome == f"skipped: {contract.AHEAD_OF_TIME}"}
    assert {"session_closes", "benchmark_is_sane", "keeps_names_and_dims"} <= skipped
    assert outcomes["computes_the_same[conv_bn]"] == "structure"
    assert outcomes["a_killed_export_leaves_nothing"] == "ok"
    assert not [outcome for outcome in outcomes.values() if outcome.startswith("failed")]


def test_the_kit_fails_a_target_that_never_runs_and_does_not_say_so(smithy, tmp_path):
    from modelexport.testing import report

    file = tmp_path / "test_contract.py"
    file.write_text(CONTRACT.format(reason=""))
    outcomes = report.run("stamper", file).outcomes
    assert outcomes["computes_the_same[conv_bn]"].startswith("failed")
    assert outcomes["session_closes"].startswith("failed")
    assert not [outcome for outcome in outcomes.values() if outcome == "structure"]
