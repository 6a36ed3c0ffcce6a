"""`mx quantize` with a toy target that really rounds: what is made, judged, kept and refused."""

import json
import shutil

import modelexport
import numpy as np
import pytest
from modelexport import errors
from modelexport.data.samples import open_samples
from modelexport.gate import golden

from core.tests.unit.work.conftest import files

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture
def source(rounded, tmp_path):
    """A copy of the artifact in a folder of its own."""
    return shutil.copytree(rounded / "net.rounder", tmp_path / "net.rounder")


def report(artifact):
    return artifact.quantization_report().to_json()


# --------------------------------------------------------------------------------------- the verb


def test_the_copy_is_beside_its_source_which_stays_as_it_is(source):
    before = files(source)
    made = modelexport.quantize(source)
    assert files(source) == before
    assert made.path == source.with_name("net.quantized.rounder")
    assert sorted(path.name for path in source.parent.iterdir()) == ["net.quantized.rounder", "net.rounder"]
    assert (made.precision, made.parity.verified) == ("int8", True)
    assert [step.verb for step in made.lineage] == ["export", "quantize"]
    assert modelexport.load(made.path).details == json.loads(json.dumps(made.details))


def test_what_was_lost_is_measured_on_the_finished_copy(source, rounded):
    """Against the figures computed here, from both sessions, on the samples that were held out."""
    made = modelexport.quantize(
        source, options={"bits": 4}, calibration=rounded / "x.npz", tolerance="atol=1,equal=0"
    )
    score = report(made)["score"]
    assert (score["metric"], score["samples"], score["baseline"]) == ("cosine", 10, 1.0)
    assert score["data"] == f"held-out samples of {rounded / 'x.npz'}"
    data = open_samples(modelexport.load(source), rounded / "x.npz")
    _, held_out = data.split(0.75)
    with modelexport.run(source) as one, modelexport.run(made.path) as other:
        pairs = [(one(sample)["scores"], other(sample)["scores"]) for sample in held_out]
    cosines = [float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in pairs]
    assert score["score"] == pytest.approx(min(cosines), abs=1e-6)
    assert 0.9 < score["score"] < 0.9999
    assert score["drop"] == pytest.approx(1 - score["score"])
    assert score["figures"]["scores"]["cosine"] <= score["figures"]["scores"]["mean cosine"] < 1
    assert 10 < score["figures"]["scores"]["sqnr"] < 40


def test_fewer_bits_lose_more(source, tmp_path):
    drops = [
        report(modelexport.quantize(source, tmp_path / str(bits), options={"bits": bits}, verify=False))["score"][
            "drop"
        ]
        for bits in (8, 5, 3)
    ]
    assert 0 < drops[0] < drops[1] / 4 < drops[2] / 16


@pytest.mark.parametrize(("file", "calibrated", "judged"), [("x.npz", 30, 10), ("few.npz", 5, 5)])
def test_a_quarter_of_the_data_is_held_out_unless_there_is_little(
    source, rounded, tmp_path, monkeypatch, file, calibrated, judged
):
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    made = modelexport.quantize(source, calibration=rounded / file)
    assert (tmp_path / "log").read_text().splitlines() == ["quantize rounder", f"{calibrated} samples"]
    assert report(made)["score"]["samples"] == judged
    assert ("held-out" in report(made)["score"]["data"]) is (judged < calibrated)


def test_without_data_the_golden_inputs_judge_and_the_report_says_so(source):
    score = report(modelexport.quantize(source))["score"]
    assert score["data"] == "golden cases: random inputs, not real data"
    assert score["samples"] == len(golden.load(source / "golden.npz").cases)


def test_a_target_that_returns_no_report_gets_one(source):
    found = report(modelexport.quantize(source, options={"mode": "bare"}))
    assert found["mode"] == "bare"
    assert 0 < found["score"]["drop"] < 0.01


def test_a_hook_that_wants_neither_data_nor_goal_still_works(source, monkeypatch):
    import toy_rounder
    from modelexport.plugins import manager

    def old(artifact, out, options):
        shutil.copyfile(artifact.entry_path, out / "model.npz")
        return modelexport.Build("model.npz", precision="int8")

    monkeypatch.setattr(toy_rounder, "mx_quantize", modelexport.hookimpl(old))
    manager.target.cache_clear()
    try:
        assert report(modelexport.quantize(source))["score"]["drop"] == 0
    finally:
        manager.target.cache_clear()


# --------------------------------------------------------------------------------------- budgets


def test_a_goal_that_can_be_held_is_held(source, rounded):
    made = modelexport.quantize(
        source, options={"bits": 3, "find": True}, calibration=rounded / "x.npz", max_drop=1e-4
    )
    trials = report(made)["trials"]
    assert [trial["what"] for trial in trials] == [f"{bits} bits" for bits in range(3, 3 + len(trials))]
    assert len(trials) > 1
    assert all(trial["drop"] > 1e-4 for trial in trials[:-1])
    assert report(made)["score"]["drop"] <= 1e-4
    assert report(made)["score"]["max_drop"] == 1e-4


def test_a_goal_that_can_not_be_held_ends_with_3_and_the_best_found(mx, source, rounded):
    result = mx("quantize", source, "-k", "bits=5", "--calibration", rounded / "x.npz", "--max-drop", "1e-7")
    assert result.code == 3
    failed = source.with_name("net.quantized.rounder.failed")
    score = report(modelexport.load(failed))["score"]
    assert (
        f"the best copy found has a drop of {score['drop']:.4g} in cosine, --max-drop allows 1e-07" in result.error
    )
    assert str(failed) in result.hint
    assert "5 bits: " in result.hint
    assert modelexport.load(failed).parity.verified is False
    assert not source.with_name("net.quantized.rounder").exists()


def test_the_users_own_score_judges(source, rounded):
    made = modelexport.quantize(source, evaluate=f"{rounded / 'score.py'}:accuracy", max_drop=0.1)
    score = report(made)["score"]
    x = np.random.default_rng(5).uniform(-1, 1, (40, 6)).astype(np.float32)[:8]
    with modelexport.run(source) as one, modelexport.run(made.path) as other:
        before, after = (float(session({"x": x})["scores"].std()) for session in (one, other))
    assert (score["metric"], score["baseline"]) == ("accuracy", before)
    assert score["score"] == pytest.approx(after)
    assert score["drop"] == pytest.approx(before - after)
    own = modelexport.quantize(source, evaluate=lambda session: 7.0)
    assert (report(own)["score"]["baseline"], report(own)["score"]["drop"]) == (7, 0)


# --------------------------------------------------------------------------------------- the gate


def test_a_copy_that_computes_something_else_does_not_pass(source):
    with pytest.raises(errors.ParityError, match="rounder does not compute what the source computes"):
        modelexport.quantize(source, options={"mode": "broken"})
    assert source.with_name("net.quantized.rounder.failed").is_dir()


def test_golden_data_keeps_the_sources_cases_and_adds_real_samples(source, rounded):
    made = modelexport.quantize(source, calibration=rounded / "x.npz")
    own = [case.name for case in golden.load(source / "golden.npz").cases]
    assert made.parity.cases == (*own, *(f"calibration {index}" for index in range(6)))
    rows = np.load(rounded / "x.npz")["x"]
    with modelexport.run(source) as session:
        for case in golden.load(made.golden).cases[-4:]:
            assert case.inputs["x"].shape == (1, 6)
            assert (rows == case.inputs["x"]).all(axis=1).any()
            assert np.array_equal(session(case.inputs)["scores"], case.outputs["scores"])
    assert modelexport.verify(made.path).parity.verified is True


def test_cases_outside_the_calibrated_range_are_left_out_and_said(source, rounded):
    """Random inputs go to ±3, calibration data to ±1: clipped there, nothing could agree."""
    made = modelexport.quantize(source, options={"mode": "static"}, calibration=rounded / "x.npz")
    assert made.parity.verified is True
    assert "middle" in made.parity.skipped
    assert "'x' is -" in made.parity.skipped["middle"]
    assert "random inputs" in made.parity.skipped["zeros"]  # in range, and still no real data
    assert {"calibration 0", "calibration 3", "calibration batch=1", "calibration batch=17"} <= set(
        made.parity.cases
    )
    (warning,) = report(made)["warnings"]
    assert warning.startswith("input 'x': calibration saw -")
    outside = [reason for reason in made.parity.skipped.values() if "'x' is -" in reason]
    assert f"{len(outside)} of the cases were left out" in warning
    large = next(case for case in golden.load(made.golden).cases if case.name == "calibration batch=17")
    assert large.inputs["x"].shape == (17, 6)
    assert large.outputs["scores"].shape == (17, 4)


def test_weights_alone_leave_no_case_out(source, rounded):
    made = modelexport.quantize(source, calibration=rounded / "x.npz")
    assert not made.parity.skipped
    assert not report(made)["warnings"]


# --------------------------------------------------------------------------------------- bad input


def test_an_artifact_is_quantized_once(mx, source):
    made = modelexport.quantize(source)
    result = mx("quantize", made.path)
    assert result.code == errors.ArtifactError.exit_code
    assert f"is quantized already: it is int8, made from {source}" in result.error
    assert not made.path.with_name("net.quantized.quantized.rounder").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-k", "bitz=4"], 6, "no option 'bitz'"),
        (["--mode", "weights", "-k", "mode=static"], 6, "'mode' is given twice"),
        (["--preset", "x86"], 6, "no option 'preset'"),
        (["--metric", "bleu"], 6, "no metric 'bleu'"),
        (["--metric", "cosine:best"], 6, "no floating-point output 'best'"),
        (["--max-drop", "3"], 6, "--max-drop 3 makes no sense"),
        (["--calibration", "nothing.npz"], 9, "no calibration data at 'nothing.npz'"),
        (["--calibration", "{folder}/x.npz", "--samples", "0"], 6, "0 samples are none"),
        (["--evaluate", "score"], 6, "--evaluate score names no function"),
        (["--evaluate", "{folder}/score.py:accuracies"], 6, "there is no 'accuracies'"),
        (["--evaluate", "{folder}/score.py:TABLE"], 6, "is a dict, not a function"),
        (["--evaluate", "{folder}/score.py:raises"], 9, "--evaluate raised KeyError: 'labels.csv'"),
        (["--evaluate", "{folder}/score.py:words"], 9, "--evaluate raised ValueError"),
        (["--tolerance", "equals=1"], 6, "can't use --tolerance"),
        (["-o", "{source}"], 7, "is the artifact itself"),
    ],
    ids=lambda value: " ".join(value).replace("{folder}/", "") if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_leaves_nothing(mx, source, rounded, arguments, code, said):
    before = files(source.parent)
    result = mx("quantize", source, *(part.format(folder=rounded, source=source) for part in arguments))
    assert (result.code, said in result.error) == (code, True), result.err
    assert files(source.parent) == before


def test_data_that_fails_half_way_leaves_nothing(source):
    def rows():
        for index in range(20):
            if index == 13:
                raise OSError("the camera is gone")
            yield {"x": np.full((1, 6), index / 20, np.float32)}

    before = files(source.parent)
    with pytest.raises(errors.InputError, match="the camera is gone"):
        modelexport.quantize(source, options={"mode": "static"}, calibration=rows)
    assert files(source.parent) == before


def test_a_machine_that_can_not_run_the_model_measures_nothing(mx, source, rounded, monkeypatch):
    monkeypatch.setenv("ROUNDER_ABSENT", "1")
    result = mx("quantize", source, "--calibration", rounded / "x.npz")
    assert result.code == 0, result.err
    assert "structure only" in result.out
    assert "accuracy: not measured" in result.out
    made = source.with_name("net.quantized.rounder")
    assert report(modelexport.load(made))["score"] == {}
    promised = mx("quantize", source, "-o", source.with_name("more"), "--max-drop", "0.1")
    assert (promised.code, promised.error) == (15, "there is no abacus here")
    assert not source.with_name("more").exists()
    monkeypatch.delenv("ROUNDER_ABSENT")
    assert modelexport.verify(made).parity.verified is True
