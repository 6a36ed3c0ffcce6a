"""Artifacts that an earlier modelexport wrote are still read, shown, run, verified and worked on.

`data/artifacts_of_0_1_0` holds manifests and golden data as they were first: a quantization report and a compiled
model's layers among the target's own details, golden cases without a word on where they come from.
"""

import json
import shutil
from pathlib import Path

import modelexport
import numpy as np
import pytest
from modelexport.contract import StandIn
from modelexport.errors import ArtifactError, ParityError
from modelexport.gate import golden
from modelexport.store import schema

pytestmark = pytest.mark.usefixtures("toys")

OLD = Path(__file__).parents[2] / "data" / "artifacts_of_0_1_0"
ALL = ["float.rounder", "quantized.rounder", "structure.rounder", "broken.rounder.failed"]


@pytest.fixture
def old(tmp_path):
    """A copy of an old artifact."""
    return lambda name: shutil.copytree(OLD / name, tmp_path / name)


@pytest.mark.parametrize("name", ALL)
def test_all_of_the_manifest_is_kept(name, old):
    path = old(name)
    artifact = modelexport.load(path)
    assert [str(spec) for spec in artifact.inputs] == ["x:float32[batch=1..4,6]"]
    assert [str(spec) for spec in artifact.outputs] == ["scores:float32[batch=1..4,4]", "best:int64[batch=1..4]"]
    assert (artifact.format, artifact.entry) == ("rounder", "model.npz")
    written = json.loads((path / "manifest.json").read_text())
    again = json.loads(json.dumps(schema.to_json(artifact)))
    assert again == written, "written again, it says the same"


@pytest.mark.parametrize(
    ("name", "precision", "verified", "verbs"),
    [
        ("float.rounder", "float32", True, ["export"]),
        ("quantized.rounder", "int8", True, ["export", "quantize"]),
        ("structure.rounder", "float32", "structure", ["export"]),
        ("broken.rounder.failed", "int8", False, ["export", "quantize"]),
    ],
)
def test_what_it_says(name, precision, verified, verbs, old, mx):
    path = old(name)
    artifact = modelexport.load(path)
    assert (artifact.precision, artifact.parity.verified) == (precision, verified)
    assert [step.verb for step in artifact.lineage] == verbs
    shown = mx("inspect", path)
    assert (shown.code, shown.err) == (0, "")
    assert "x:float32[batch=1..4,6]" in shown.out
    assert mx("inspect", path, "--json").json["verified"] == verified


def test_the_report_among_its_details_is_the_report(old, mx):
    path = old("quantized.rounder")
    artifact = modelexport.load(path)
    assert "quantization" not in artifact.details
    report = artifact.quantization_report()
    assert (report.mode, report.settings, report.calibrated) == ("static", {"bits": 7}, True)
    assert [trial.what for trial in report.trials] == ["4 bits", "5 bits", "6 bits", "7 bits"]
    assert report.trials[-1].verdict == "holds"
    assert report.layers[0].weight_range == pytest.approx((-0.4048, 0.3669), abs=1e-4)
    assert (report.score.metric, report.score.samples, report.score.holds) == ("cosine", 3, True)
    shown = mx("inspect", path, "--quantization")
    assert (shown.code, shown.err) == (0, "")
    assert "cosine 0.9991 on 3 held-out samples of x.npz" in shown.out


def test_what_a_compiler_said_among_its_details_has_fields():
    data = json.loads((OLD / "compiled.stamper" / "manifest.json").read_text())
    data["details"] |= {"stands_in": {"format": "tape", "entry": "model.tape"}, "notes": ["two layers are alike"]}
    artifact = schema.from_json(data, OLD / "compiled.stamper")
    assert [layer.kind for layer in artifact.layers] == ["blow", "pause", "rub", "rub", "rub"]
    assert artifact.stand_in == StandIn("tape", "model.tape", {})
    assert artifact.notes == ("two layers are alike",)
    assert artifact.details == {"verified before": True}
    assert artifact.parity.verified == "structure"


def test_cases_of_before_origins_were_written_are_told_by_their_names():
    origins = {
        name: {case.name: case.origin for case in golden.load(OLD / name / "golden.npz").cases} for name in ALL
    }
    assert origins["float.rounder"] == {
        **dict.fromkeys(("low", "middle", "high batch=4", "seed 2", "seed 3", "zeros", "ramp", "edges"), "drawn"),
        "sample 0": "sample",
    }
    calibrated = [*(f"calibration {index}" for index in range(3)), "calibration batch=1", "calibration batch=4"]
    assert origins["quantized.rounder"] == {"sample 0": "sample", **dict.fromkeys(calibrated, "calibration")}


@pytest.mark.parametrize("name", ["float.rounder", "quantized.rounder", "structure.rounder"])
def test_it_is_run_and_verified(name, old):
    path = old(name)
    case = golden.load(path / "golden.npz").cases[0]
    with modelexport.run(path) as session:
        found = session(case.inputs)
    assert np.allclose(found["scores"], case.outputs["scores"], atol=0.1)
    cases = modelexport.load(path).parity.cases
    verified = modelexport.verify(path)
    assert (verified.parity.verified, verified.parity.cases) == (True, cases)
    assert modelexport.load(path) == verified


def test_what_fell_short_still_does(old):
    path = old("broken.rounder.failed")
    before = modelexport.load(path)
    assert before.parity.reason == (
        "output 'best' in case 'low': 1 of 1 values differ, by up to 2, 95 % must be equal"
    )
    with pytest.raises(ParityError, match="does not compute what the source computes"):
        modelexport.verify(path)
    assert modelexport.load(path).parity.outputs == before.parity.outputs


def test_it_can_be_worked_on(old, rounded):
    """Quantized, taken as the source of another target, and not quantized twice."""
    path = old("float.rounder")
    made = modelexport.quantize(path, options={"mode": "static"}, calibration=rounded / "x.npz")
    assert made.parity.verified is True
    assert {"middle", "zeros"} <= set(made.parity.skipped), "what was drawn says nothing about calibrated ranges"
    assert "sample 0" in made.parity.cases
    (packed,) = modelexport.export(old("quantized.rounder"), "packer", path.parent)
    assert (packed.precision, packed.parity.verified) == ("int8", True)
    assert packed.quantization == modelexport.load(OLD / "quantized.rounder").quantization
    with pytest.raises(ArtifactError, match=r"is quantized already: it is int8, made from made/float\.rounder"):
        modelexport.quantize(OLD / "quantized.rounder")
