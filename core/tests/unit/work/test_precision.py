"""`mx export --precision`: a chain of artifacts, and which of them are used again."""

import modelexport
import pytest

from core.tests.unit.work.conftest import edit, files

pytestmark = pytest.mark.usefixtures("toys")

CHAIN = ["net.rounder", "net.optimized.rounder", "net.int8.rounder"]
INPUTS = "x:float32[batch=1..32,6]"


@pytest.fixture
def export(mx, code, tmp_path):
    """`mx export net.py:net -t rounder --precision int8 …` into build/."""

    def run(*arguments, precision="int8", declared=INPUTS):
        command = ["export", f"{code}:net", "-t", "rounder", "-o", tmp_path / "build"]
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


def test_without_precision_nothing_changes(mx, rounded, tmp_path):
    command = ["export", f"{rounded / 'net.py'}:net", "-t", "rounder", "-o", tmp_path, "--input", INPUTS]
    for _ in range(2):
        result = mx(*command)
        assert (result.code, "reused" in result.out) == (0, False)
    assert [path.name for path in tmp_path.iterdir()] == ["net.rounder"]
    for more in (["--max-drop", "0.1"], ["--calibration", rounded / "x.npz"], ["--metric", "sqnr"]):
        result = mx(*command, *more)
        assert (result.code, result.error) == (6, "calibration data and goals go with --precision")


def test_finished_steps_are_reused_and_it_is_said(export, build, rounded):
    data = ["--calibration", rounded / "x.npz", "--max-drop", "0.1"]
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


def test_another_calibration_or_goal_repeats_the_last_step(export, rounded):
    score = ["--evaluate", f"{rounded / 'score.py'}:accuracy"]
    for more in (
        ["--calibration", rounded / "x.npz"],
        ["--calibration", rounded / "x.npz", "--seed", "1", "--samples", "30"],
        ["--calibration", rounded / "few.npz"],
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
    edit(tmp_path / "score.py", (".std()", ".std() + 1"))
    assert reused(export(*score)) == CHAIN[:2]


def test_other_weights_or_code_repeat_everything(export, build, tmp_path):
    """A change of forward leaves the weights as they are: only the reference tells."""
    assert export().code == 0
    edit(tmp_path / "net.py", ("manual_seed(3)", "manual_seed(4)"))
    assert reused(export()) == []
    assert reused(export()) == CHAIN
    edit(tmp_path / "net.py", ("argmax", "argmin"))
    result = export()
    assert (result.code, "does not compute what the source computes" in result.error) == (3, True)
    assert (build / "net.rounder.failed").is_dir()


def test_other_inputs_repeat_everything(export):
    assert export().code == 0
    assert reused(export(declared="x:float32[batch=1..16,6]")) == []


def test_a_target_in_a_file_has_no_version_to_go_by(mx, export, build, monkeypatch):
    import toy_rounder
    from modelexport.plugins import entries, entrypoints, manager

    assert export().code == 0
    real = entries.find
    file = entrypoints.FilePoint("mx.targets", "rounder", toy_rounder.__file__, "toy-rounder", "1.0")
    with monkeypatch.context() as patch:
        entry = {"rounder": entries.Entry("rounder", file)}
        patch.setattr(manager, "find", lambda group: real(group) | (entry if group == entries.TARGETS else {}))
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
