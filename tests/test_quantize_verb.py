"""`mx quantize`, `mx inspect --quantization` and `mx export --precision`, with a toy target that really rounds."""

import json
import re
import shutil

import modelexport
import numpy as np
import pytest
from modelexport import errors
from modelexport.data.samples import open_samples
from modelexport.gate import golden
from modelexport.gate.compare import compare

NET = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.linear = torch.nn.Linear(6, 4)

    def forward(self, x):
        scores = self.linear(x)
        return {"scores": scores, "best": scores.argmax(-1)}


def net():
    return Net()
"""

SCORE = """
import numpy as np

CALLS = []


def accuracy(session):
    x = np.random.default_rng(5).uniform(-1, 1, (40, 6)).astype(np.float32)
    CALLS.append(1)
    return float(session({"x": x[:8]})["scores"].std())


def raises(session):
    raise KeyError("labels.csv")


def words(session):
    return "good"


TABLE = {}
"""

INPUTS = ["x:float32[batch=1..32,6]"]


@pytest.fixture(scope="module", autouse=True)
def rounder(install_toys):
    install_toys("rounder")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """net.py, score.py, its artifact net.rounder, and real data: x.npz (40 rows), few.npz (5 rows)."""
    folder = tmp_path_factory.mktemp("quantize")
    (folder / "net.py").write_text(NET)
    (folder / "score.py").write_text(SCORE)
    modelexport.export(f"{folder / 'net.py'}:net", "rounder", folder, inputs=INPUTS)
    rows = np.random.default_rng(1).uniform(-1, 1, (40, 6)).astype(np.float32)
    np.savez(folder / "x.npz", x=rows)
    np.savez(folder / "few.npz", x=rows[:5])
    return folder


@pytest.fixture
def source(folder, tmp_path):
    """A copy of the artifact in a folder of its own."""
    return shutil.copytree(folder / "net.rounder", tmp_path / "net.rounder")


def files(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


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


def test_what_was_lost_is_measured_on_the_finished_copy(source, folder):
    """Against the figures computed here, from both sessions, on the samples that were held out."""
    made = modelexport.quantize(
        source, options={"bits": 4}, calibration=folder / "x.npz", tolerance="atol=1,equal=0"
    )
    score = report(made)["score"]
    assert (score["metric"], score["samples"], score["baseline"]) == ("cosine", 10, 1.0)
    assert score["data"] == f"held-out samples of {folder / 'x.npz'}"
    data = open_samples(modelexport.load(source), folder / "x.npz")
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
    source, folder, tmp_path, monkeypatch, file, calibrated, judged
):
    monkeypatch.setenv("ROUNDER_LOG", str(tmp_path / "log"))
    made = modelexport.quantize(source, calibration=folder / file)
    assert (tmp_path / "log").read_text().split() == [str(calibrated)]
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


def test_a_goal_that_can_be_held_is_held(source, folder):
    made = modelexport.quantize(
        source, options={"bits": 3, "find": True}, calibration=folder / "x.npz", max_drop=1e-4
    )
    trials = report(made)["trials"]
    assert [trial["what"] for trial in trials] == [f"{bits} bits" for bits in range(3, 3 + len(trials))]
    assert len(trials) > 1
    assert all(trial["drop"] > 1e-4 for trial in trials[:-1])
    assert report(made)["score"]["drop"] <= 1e-4
    assert report(made)["score"]["max_drop"] == 1e-4


def test_a_goal_that_can_not_be_held_ends_with_3_and_the_best_found(mx, source, folder):
    result = mx("quantize", source, "-k", "bits=5", "--calibration", folder / "x.npz", "--max-drop", "1e-7")
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


def test_the_users_own_score_judges(source, folder):
    made = modelexport.quantize(source, evaluate=f"{folder / 'score.py'}:accuracy", max_drop=0.1)
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


def test_int8_has_a_budget_of_its_own_for_floats_and_integers():
    want = np.linspace(-1, 1, 100, dtype=np.float32)
    near, far = want + np.float32(0.1), want + np.float32(1.08)
    assert not compare("y", near, want, "float16").ok
    assert compare("y", near, want, "int8").ok
    assert not compare("y", far, want, "int8").ok
    assert compare("y", far, want, "int4").used < 1
    whole = np.arange(100)
    for wrong, verdicts in ((0, (True, True, True)), (5, (False, True, True)), (10, (False, False, True))):
        other = np.where(whole < wrong, -1, whole)
        found = [compare("n", other, whole, precision).ok for precision in ("float32", "int8", "int4")]
        assert tuple(found) == verdicts, wrong


def test_integers_as_a_dtype_widen_nothing():
    """An output of int8 in a float32 model must be equal, and a float output of it keeps its budget."""
    assert not compare("n", np.array([1, 2], np.int8), np.array([1, 3], np.int8), "float32").ok
    assert not compare("n", np.arange(100, dtype=np.int8), np.arange(100, dtype=np.int8)[::-1], "int8").ok


def test_a_copy_that_computes_something_else_does_not_pass(source):
    with pytest.raises(errors.ParityError, match="rounder does not compute what the source computes"):
        modelexport.quantize(source, options={"mode": "broken"})
    assert source.with_name("net.quantized.rounder.failed").is_dir()


def test_golden_data_keeps_the_sources_cases_and_adds_real_samples(source, folder):
    made = modelexport.quantize(source, calibration=folder / "x.npz")
    own = [case.name for case in golden.load(source / "golden.npz").cases]
    assert made.parity.cases == (*own, *(f"calibration {index}" for index in range(6)))
    rows = np.load(folder / "x.npz")["x"]
    with modelexport.run(source) as session:
        for case in golden.load(made.golden).cases[-4:]:
            assert case.inputs["x"].shape == (1, 6)
            assert (rows == case.inputs["x"]).all(axis=1).any()
            assert np.array_equal(session(case.inputs)["scores"], case.outputs["scores"])
    assert modelexport.verify(made.path).parity.verified is True


def test_cases_outside_the_calibrated_range_are_left_out_and_said(source, folder):
    """Random inputs go to ±3, calibration data to ±1: clipped there, nothing could agree."""
    made = modelexport.quantize(source, options={"mode": "static"}, calibration=folder / "x.npz")
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


def test_weights_alone_leave_no_case_out(source, folder):
    made = modelexport.quantize(source, calibration=folder / "x.npz")
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
def test_bad_input_is_one_line_and_leaves_nothing(mx, source, folder, arguments, code, said):
    before = files(source.parent)
    result = mx("quantize", source, *(part.format(folder=folder, source=source) for part in arguments))
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


@pytest.mark.parametrize("limit", [200, 1500], ids=["reference", "golden"])
def test_a_full_disk_is_named_and_leaves_nothing(source, limit):
    """No file may grow beyond the limit: the reference answers do not fit, or the golden data."""
    import resource
    import signal

    before = files(source.parent)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(errors.OutputError, match="can't write"):
            modelexport.quantize(source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert files(source.parent) == before


def test_a_machine_that_can_not_run_the_model_measures_nothing(mx, source, folder, monkeypatch):
    monkeypatch.setenv("ROUNDER_ABSENT", "1")
    result = mx("quantize", source, "--calibration", folder / "x.npz")
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


# --------------------------------------------------------------------------------------- the command


def test_the_command_says_what_was_made_and_lost(mx, source, folder):
    result = mx("quantize", source, "-k", "bits=7", "--calibration", folder / "x.npz", "--max-drop", "0.01")
    assert (result.code, result.err) == (0, "")
    made = modelexport.load(source.with_name("net.quantized.rounder"))
    first, second, *_ = result.out.splitlines()
    assert first.startswith(f"{made.path}  int8  ")
    assert f"({made.size / modelexport.load(source).size:.2f} × net.rounder)  verified" in first
    score = report(made)["score"]
    assert second.strip() == (
        f"cosine {score['score']:.4f} on 10 held-out samples of {folder / 'x.npz'}, "
        f"drop {score['drop']:.2g} (max 0.01)"
    )
    assert "7 bits" in result.out
    assert "95% of integers equal" in result.out
    as_json = mx("quantize", source, "--json").json
    assert as_json["details"]["quantization"]["score"]["max_drop"] is None


def test_mode_is_short_for_the_option(mx, source, folder):
    result = mx("quantize", source, "--mode", "static", "--calibration", folder / "x.npz", "--json")
    assert result.json["lineage"][-1]["options"] == {"mode": "static", "bits": 8, "find": False}
    assert "bits of a weight" in mx("quantize", source, "-k", "help").out


def test_the_warnings_are_shown(mx, source, folder):
    result = mx("quantize", source, "--mode", "static", "--calibration", folder / "x.npz")
    assert "  warning: input 'x': calibration saw" in result.out


# --------------------------------------------------------------------------------------- the report


@pytest.fixture(scope="module")
def quantized(folder, tmp_path_factory):
    """A quantized artifact with a trail."""
    source = shutil.copytree(folder / "net.rounder", tmp_path_factory.mktemp("report") / "net.rounder")
    options = {"bits": 4, "find": True}
    return modelexport.quantize(source, options=options, calibration=folder / "x.npz", max_drop=1e-4).path


def with_report(path, place, **changes):
    """A copy of an artifact with another report."""
    shutil.copytree(path, place)
    data = json.loads((place / "manifest.json").read_text())
    data["details"]["quantization"] |= changes
    (place / "manifest.json").write_text(json.dumps(data))
    return place


def layer(index, **changes):
    """A layer with a name as long as they get."""
    name = f"encoder.layers.{index}.attention.output.dense.something/MatMul_of_the_{index}th_layer"
    data = {"name": name, "kind": "MatMul", "precision": ("int8", "float32")[index % 2], "sqnr": 20.0 + index % 17}
    return data | {"latency": 1 / (index + 2)} | changes


def test_inspect_says_in_one_line_what_quantization_did(mx, quantized):
    result = mx("inspect", quantized)
    (line,) = (line for line in result.out.splitlines() if line.startswith("  quantization: "))
    score = report(modelexport.load(quantized))["score"]["score"]
    assert line.startswith(f"  quantization: weights; 1 layers int7; cosine {score:.4f} (--quantization")
    assert "weight_range" not in result.out


def test_the_report_as_tables(mx, quantized, tmp_path):
    rows = [layer(0, weight_range=[-1.25, 3.5], cost=0.031), layer(1, note="left in float")]
    shown = mx("inspect", with_report(quantized, tmp_path / "x.rounder", layers=rows, warnings=["dead"]),
               "--quantization")  # fmt: skip
    assert (shown.code, shown.err) == (0, "")
    lines = shown.out.splitlines()
    assert lines[1].strip() == "settings: mode=weights, bits=7"
    assert lines[2].strip().startswith("cosine 1.0000 on 10 held-out samples")
    assert re.search(r"drop [\d.]+e-05 \(max 0\.0001\)", lines[2])
    heading = next(line for line in lines if line.split()[:1] == ["layer"])
    assert "activations" not in heading, "nothing was measured"
    (first,) = (line for line in lines if "_the_0th_layer" in line)
    assert first.split()[1:] == ["MatMul", "int8", "-1.25..3.5", "20.0", "50.0%", "3.1%"]
    assert [line.split()[0] for line in lines if " bits " in line] == ["4", "5", "6", "7"]
    assert "  warning: dead" in shown.out


def test_the_report_as_json(mx, quantized):
    shown = mx("inspect", quantized, "--quantization", "--json")
    assert shown.json == json.loads(json.dumps(report(modelexport.load(quantized))))


def test_an_artifact_that_is_not_quantized_has_no_report(mx, source):
    result = mx("inspect", source, "--quantization")
    assert (result.code, "is not quantized" in result.error) == (8, True)


@pytest.mark.parametrize("count", [1, 5, 300])
def test_the_chart_grows_with_the_layers(mx, quantized, tmp_path, count):
    image = pytest.importorskip("PIL.Image")
    made = with_report(quantized, tmp_path / "x.rounder", layers=[layer(index) for index in range(count)])
    result = mx("inspect", made, "--quantization", "--plot", tmp_path / "layers.png")
    assert (result.code, result.err) == (0, "")
    with image.open(tmp_path / "layers.png") as drawn:
        assert drawn.height == pytest.approx(110 * (1.3 + 0.2 * max(count, 4)), abs=1)
        assert drawn.width == 1210
        assert len(drawn.convert("RGB").getcolors(1 << 20)) > 10
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["layers.png"]


def test_the_chart_names_layers_and_precisions(mx, quantized, tmp_path):
    rows = [
        layer(0),
        layer(1, name="$x_1$/<&>", latency=None),
        layer(2, sqnr=None, latency=None, precision="int4"),
    ]
    made = with_report(quantized, tmp_path / "x.rounder", layers=rows)
    assert mx("inspect", made, "--quantization", "--plot", tmp_path / "layers.svg").code == 0
    text = (tmp_path / "layers.svg").read_text()
    for words in (
        "encoder.layers.0.attent…",
        "$x_1$/&lt;&amp;&gt;",
        "int8",
        "float32",
        "int4",
        "share of the latency",
    ):
        assert words in text, words


def test_names_are_shortened_in_the_middle():
    from modelexport.cli.show.charts import shortened

    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 10) == "abcd…ghijk"
    assert {len(shortened("n" * 99, most)) for most in (9, 10)} == {9, 10}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--quantization", "--plot", "{tmp}/layers.gif"], 6, "unknown suffix '.gif'"),
        (["--quantization", "--plot", "{tmp}/absent/layers.png"], 7, "can't write"),
        (["--plot", "{tmp}/layers.png"], 2, "--plot goes with --quantization"),
    ],
)
def test_a_chart_that_can_not_be_drawn(mx, quantized, tmp_path, arguments, code, said):
    result = mx("inspect", quantized, *(part.format(tmp=tmp_path) for part in arguments))
    assert (result.code, said in result.error) == (code, True)
    assert not list(tmp_path.iterdir())


def test_a_report_without_figures_is_not_drawn(mx, quantized, tmp_path):
    made = with_report(quantized, tmp_path / "x.rounder", layers=[])
    result = mx("inspect", made, "--quantization", "--plot", tmp_path / "layers.png")
    assert (result.code, result.error) == (8, "the report has no figures for its layers")


# --------------------------------------------------------------------------------------- mx export --precision

CHAIN = ["net.rounder", "net.optimized.rounder", "net.int8.rounder"]


@pytest.fixture
def export(mx, folder, tmp_path):
    """`mx export net.py:net -t rounder --precision int8 …` into build/; the code is the test's own to change."""
    (tmp_path / "net.py").write_text(NET)
    shutil.copy(folder / "score.py", tmp_path)

    def run(*arguments, precision="int8", declared=INPUTS[0]):
        command = ["export", f"{tmp_path / 'net.py'}:net", "-t", "rounder", "-o", tmp_path / "build"]
        return mx(*command, "--input", declared, "--precision", precision, *arguments)

    return run


@pytest.fixture
def build(tmp_path):
    return tmp_path / "build"


def reused(result):
    """The names of the artifacts that a command used again."""
    assert result.code == 0, result.err
    lines = [line for line in result.out.splitlines() if line.startswith("reused ")]
    assert all(line.endswith(" (same model, options and tools)") for line in lines)
    return [line.split()[1].rpartition("/")[2] for line in lines]


def test_precision_is_a_chain_of_artifacts(export, build):
    result = export("--json")
    assert result.code == 0, result.err
    (last,) = result.json["artifacts"]
    assert last["path"] == str(build / "net.int8.rounder")
    assert sorted(path.name for path in build.iterdir()) == sorted(CHAIN)
    assert [step["verb"] for step in last["lineage"]] == ["export", "optimize", "quantize"]
    assert [step["source"]["ref"].rpartition("/")[2] for step in last["lineage"][1:]] == CHAIN[:2]
    assert (last["precision"], last["verified"], result.json["reused"]) == ("int8", True, [])
    assert all(modelexport.load(build / name).parity.verified is True for name in CHAIN)


def test_a_precision_may_need_one_step_only(export, build):
    assert export(precision="fp16").code == 0
    assert sorted(path.name for path in build.iterdir()) == ["net.fp16.rounder", "net.rounder"]
    made = modelexport.load(build / "net.fp16.rounder")
    assert (made.precision, made.lineage[-1].options) == ("float16", {"precision": "float16"})


def test_without_precision_nothing_changes(mx, folder, tmp_path):
    command = ["export", f"{folder / 'net.py'}:net", "-t", "rounder", "-o", tmp_path, "--input", INPUTS[0]]
    for _ in range(2):
        result = mx(*command)
        assert (result.code, "reused" in result.out) == (0, False)
    assert [path.name for path in tmp_path.iterdir()] == ["net.rounder"]
    for more in (["--max-drop", "0.1"], ["--calibration", folder / "x.npz"], ["--metric", "sqnr"]):
        result = mx(*command, *more)
        assert (result.code, result.error) == (6, "calibration data and goals go with --precision")


def test_finished_steps_are_reused_and_it_is_said(export, build, folder):
    data = ["--calibration", folder / "x.npz", "--max-drop", "0.1"]
    first = export(*data)
    before = files(build)
    again = export(*data)
    assert reused(first) == []
    assert reused(again) == CHAIN
    assert files(build) == before
    assert again.out.splitlines()[-1] == first.out.splitlines()[-1]


def test_an_option_repeats_the_steps_it_reaches_and_those_after(export):
    assert export().code == 0
    assert reused(export("-k", "bits=7")) == CHAIN[:2]
    assert reused(export("-k", "bits=7")) == CHAIN
    assert reused(export("-k", "scale=1.0", "-k", "rounder.bits=7")) == CHAIN


def test_another_calibration_or_goal_repeats_the_last_step(export, folder):
    score = ["--evaluate", f"{folder / 'score.py'}:accuracy"]
    for more in (
        ["--calibration", folder / "x.npz"],
        ["--calibration", folder / "x.npz", "--seed", "1", "--samples", "30"],
        ["--calibration", folder / "few.npz"],
        ["--max-drop", "0.2"],
        ["--metric", "sqnr"],
        ["--tolerance", "cosine=0.9"],
        score,
    ):
        assert reused(export(*more)) in ([], CHAIN[:2]), more
        assert reused(export(*more)) == CHAIN, more


def test_another_score_in_the_same_file_repeats_the_last_step(export, tmp_path):
    score = ["--evaluate", f"{tmp_path / 'score.py'}:accuracy"]
    assert export(*score).code == 0
    assert reused(export(*score)) == CHAIN
    (tmp_path / "score.py").write_text(SCORE.replace(".std()", ".std() + 1"))
    assert reused(export(*score)) == CHAIN[:2]


def test_other_weights_or_code_repeat_everything(export, build, tmp_path):
    """A change of forward leaves the weights as they are: only the reference tells."""
    assert export().code == 0
    (tmp_path / "net.py").write_text(NET.replace("manual_seed(3)", "manual_seed(4)"))
    assert reused(export()) == []
    assert reused(export()) == CHAIN
    (tmp_path / "net.py").write_text(NET.replace("manual_seed(3)", "manual_seed(4)").replace("argmax", "argmin"))
    result = export()
    assert (result.code, "does not compute what the source computes" in result.error) == (3, True)
    assert (build / "net.rounder.failed").is_dir()


def test_other_inputs_repeat_everything(export):
    assert export().code == 0
    assert reused(export(declared="x:float32[batch=1..16,6]")) == []


def test_a_target_in_a_file_has_no_version_to_go_by(mx, export, build, monkeypatch):
    import toy_rounder
    from modelexport.plugins import entrypoints, manager

    assert export().code == 0
    real = manager.find
    file = entrypoints.FilePoint("mx.targets", "rounder", toy_rounder.__file__, "toy-rounder", "1.0")
    with monkeypatch.context() as patch:
        entry = {"rounder": manager.Entry("rounder", file)}
        patch.setattr(manager, "find", lambda group: real(group) | (entry if group == manager.TARGETS else {}))
        manager.target.cache_clear()
        assert reused(export()) == []
    manager.target.cache_clear()
    assert reused(export()) == CHAIN


def test_other_versions_of_tools_repeat_everything(export, monkeypatch):
    from modelexport.plugins import installed

    assert export().code == 0
    real = installed.versions
    monkeypatch.setattr(installed, "versions", lambda names: dict.fromkeys(real(names), "9.9"))
    assert reused(export()) == []


@pytest.mark.parametrize("name", CHAIN)
def test_what_is_damaged_or_not_verified_is_made_again(export, build, name):
    assert export().code == 0
    (build / name / "model.npz").write_bytes(b"")
    assert name not in reused(export())
    text = (build / name / "manifest.json").read_text()
    (build / name / "manifest.json").write_text(text.replace('"verified": true', '"verified": false'))
    assert name not in reused(export())
    assert reused(export()) == CHAIN


def test_a_step_that_fails_leaves_those_before_it_to_resume_from(export, build):
    assert export("-k", "mode=broken").code == 3
    assert {path.name for path in build.iterdir()} == {*CHAIN[:2], "net.int8.rounder.failed"}
    assert reused(export()) == CHAIN[:2]


@pytest.mark.parametrize(
    ("arguments", "precision", "said"),
    [
        ([], "int2", "target 'rounder' has no precision 'int2'"),
        (["-k", "bitz=7"], "int8", "target 'rounder' has no option 'bitz'"),
        (["-k", "bits=7"], "fp16", "target 'rounder' has no option 'bits'"),
        (["--max-drop", "0.1"], "fp16", "target 'rounder' does not quantize for fp16"),
        (["--max-drop", "7"], "int8", "--max-drop 7 makes no sense"),
    ],
)
def test_what_no_step_can_do_is_refused_before_the_model_is_loaded(export, build, arguments, precision, said):
    result = export(*arguments, precision=precision)
    assert (result.code, said in result.error) == (6, True), result.err
    assert not build.exists()


def test_the_hint_names_the_precisions_and_options_that_there_are(mx, export):
    assert export(precision="int2").hint == "it has int8, fp16"
    assert export("-k", "bitz=7").hint == "did you mean 'bits'?"
    shown = mx("export", "-t", "rounder", "--precision", "int8", "-k", "help").out
    assert [line for line in shown.splitlines() if line.startswith("options of")] == [
        "options of target 'rounder' (-k key=value):",
        "options of target 'rounder' to optimize (-k key=value):",
        "options of target 'rounder' to quantize (-k key=value):",
    ]
