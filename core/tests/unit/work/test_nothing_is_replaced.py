"""A command that fails replaces nothing, and finds what is wrong with itself before the model is loaded."""

import shutil

import modelexport
import pytest
from modelexport import errors

from core.tests.unit.work.conftest import edit, files

pytestmark = pytest.mark.usefixtures("toys")

TARGET, OPTION, OUTPUT, INPUT, SOURCE, PARITY = 5, 6, 7, 9, 4, 3

#: a budget that no copy keeps that computes in another order
EXACT = {"atol": 0.0, "rtol": 0.0, "noise": 0.0}

CHAIN = ["net.rounder", "net.optimized.rounder", "net.int8.rounder"]


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """The file that says that the model's factory was called."""
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    return tmp_path / "mark"


@pytest.fixture
def net(nets, mark, tmp_path):
    """A model that another one can be put in the place of, under the same name."""
    return shutil.copy(nets("marking", "").removesuffix(":"), tmp_path / "net.py")


@pytest.fixture
def export(mx, net, tmp_path):
    """`mx export net.py:net -o build`, with more arguments."""

    def run(*arguments):
        return mx("export", f"{net}:net", "-o", tmp_path / "build", *arguments)

    return run


@pytest.fixture
def standing(export, mark, tmp_path):
    """The folder of a chain that was finished before; the model has changed since, so everything is made anew."""
    assert export("-t", "rounder", "--precision", "int8").code == 0
    assert sorted(path.name for path in (tmp_path / "build").iterdir()) == sorted(CHAIN)
    edit(tmp_path / "net.py", ("SEED = 3", "SEED = 4"))
    mark.unlink()
    return tmp_path / "build"


INT8 = ["-t", "rounder", "--precision", "int8"]

#: what is wrong → the command line, the exit code, and what must be said; {tmp} is the test's folder, {data} that
#: with real data
WRONG = {
    "calibration that is not there": ([*INT8, "--calibration", "gone.npz"], INPUT, "gone.npz"),
    "calibration that is damaged": ([*INT8, "--calibration", "{tmp}/damaged.npz"], INPUT, "damaged.npz"),
    "column that is not there": ([*INT8, "--calibration", "{tmp}/rows.jsonl", "--column", "y"], INPUT, "'y'"),
    "column of arrays": ([*INT8, "--calibration", "{data}/x.npz", "--column", "y"], OPTION, "--column y"),
    "no samples": ([*INT8, "--calibration", "{data}/x.npz", "--samples", "0"], OPTION, "0 samples"),
    "calibration without precision": (["-t", "rounder", "--calibration", "{data}/x.npz"], OPTION, "--precision"),
    "goal without precision": (["-t", "rounder", "--max-drop", "0.1"], OPTION, "--precision"),
    "goal that makes no sense": ([*INT8, "--max-drop", "7"], OPTION, "--max-drop 7"),
    "goal that no step looks at": (["-t", "rounder", "--precision", "fp16", "--max-drop", "0.1"], OPTION, "fp16"),
    "metric that there is not": ([*INT8, "--metric", "bleu"], OPTION, "'bleu'"),
    "score that is not there": ([*INT8, "--evaluate", "{data}/score.py:gone"], OPTION, "'gone'"),
    "weights that are not there": ([*INT8, "--weights", "gone.safetensors"], SOURCE, "gone.safetensors"),
    "weights that are code": ([*INT8, "--weights", "{tmp}/net.py"], SOURCE, "net.py is code"),
    "weights that are arrays": ([*INT8, "--weights", "{data}/x.npz"], SOURCE, "x.npz holds arrays"),
    "weights of nobody": ([*INT8, "--weights", "{tmp}/damaged.npz"], SOURCE, "damaged.npz holds arrays"),
    "weights without a header": ([*INT8, "--weights", "{tmp}/w.safetensors"], SOURCE, "no safetensors file"),
    "weights without shards": ([*INT8, "--weights", "{tmp}/w.index.json"], SOURCE, "no weights at"),
    "input that can't be read": ([*INT8, "--input", "x:float32[2,3"], OPTION, "can't read the input"),
    "input of no dtype": ([*INT8, "--input", "x:float33[2,3]"], OPTION, "'float33'"),
    "input with empty bounds": ([*INT8, "--input", "x:float32[b=5..2]"], OPTION, "are empty"),
    "input that is there twice": ([*INT8, "--input", "x:float32[2]", "--input", "x:int8[2]"], OPTION, "twice"),
    "inputs that exclude each other": (
        [*INT8, "--input", "x:float32[b=1..2]", "--input", "y:float32[b=3..4]"],
        OPTION,
        "exclude each other",
    ),
    "quantization without data": ([*INT8, "-k", "mode=static"], OPTION, "takes ranges from data"),
    "quantization on the way": (["-t", "packer", "--precision", "int8", "-k", "mode=static"], OPTION, "ranges"),
    "sample that is not there": ([*INT8, "--sample", "gone.npz"], INPUT, "gone.npz"),
    "option of the first target": ([*INT8, "-k", "bitz=4"], OPTION, "did you mean 'bits'?"),
    "option of the second target": (["-t", "rounder", "-t", "tape", "-k", "tape.version=9"], OPTION, "version 9"),
    "file of the second target": (["-t", "rounder", "-t", "tape", "-k", "licence=gone.txt"], OPTION, "gone.txt"),
    "option of what is on the way": (["-t", "packer", "--precision", "int8", "-k", "bits=x"], OPTION, "bits=x"),
    "second target that there is not": (["-t", "rounder", "-t", "roundr"], TARGET, "'roundr'"),
    "precision of the second target": ([*INT8, "-t", "captured"], OPTION, "no precision 'int8'"),
    "tolerance": ([*INT8, "--tolerance", "tight"], OPTION, "'tight'"),
    "dim of no target": ([*INT8, "--dim", "tape.batch=3"], OPTION, "not asked for"),
    "snippet that no target has": ([*INT8, "--snippet", "fort"], OPTION, "'fort'"),
    "module to register": ([*INT8, "--register", "gone_ops"], SOURCE, "gone_ops"),
    "place below a file": ([*INT8, "-o", "{tmp}/damaged.npz"], OUTPUT, "damaged.npz"),
    "place that is taken": ([*INT8, "--name", "mine"], OUTPUT, "mine.rounder is there and is not an artifact"),
    "place of the second target": (
        ["-t", "rounder", "-t", "tape", "--name", "hers"],
        OUTPUT,
        "hers.tape is there",
    ),
    "place of what fails": ([*INT8, "--name", "his"], OUTPUT, "his.int8.rounder.failed is there"),
}


@pytest.mark.parametrize("row", WRONG, ids=lambda row: row.replace(" ", "-"))
def test_what_is_wrong_is_found_before_the_model_is_loaded(row, export, standing, mark, rounded, tmp_path):
    (tmp_path / "damaged.npz").write_bytes(b"not what it says")
    (tmp_path / "w.safetensors").write_bytes(b"not what it says")
    (tmp_path / "w.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')
    (tmp_path / "rows.jsonl").write_text('{"x": [1, 2, 3, 4, 5, 6]}\n')
    for name in ("mine.rounder", "hers.tape", "his.int8.rounder.failed"):
        (standing / name).mkdir()
        (standing / name / "precious.txt").write_text("mine")
    before = files(tmp_path)
    arguments, code, said = WRONG[row]
    result = export(*(each.format(tmp=tmp_path, data=rounded) for each in arguments))
    assert result.code == code, result.err
    assert said in result.err
    assert result.error
    assert not mark.exists(), "the model was loaded"
    assert files(tmp_path) == before


@pytest.mark.parametrize("chain", [["rounder"], ["tape", "rounder"], ["packer"]], ids="-".join)
def test_what_only_the_model_tells_is_found_before_any_step(chain, export, standing, mark, steps):
    steps()
    before = files(standing)
    targets = [text for name in chain for text in ("-t", name)]
    result = export(*targets, "-k", "rounder.scale=0")
    assert (result.code, "scale=0 makes nothing of x:float32" in result.err) == (OPTION, True), result.err
    assert mark.exists()
    assert steps() == []
    assert files(standing) == before


@pytest.mark.parametrize("option", ["-k", "--name"])
def test_a_good_command_loads_it_and_replaces_what_stands(option, export, standing, mark):
    """Otherwise the tests above would prove nothing."""
    before = files(standing)
    more = {"-k": ("-k", "bits=8"), "--name": ("--name", "net")}[option]
    assert export(*INT8, *more).code == 0
    assert mark.exists()
    after = files(standing)
    assert set(after) == set(before)
    assert all(after[file] != before[file] for file in before if file.name == "model.npz")


# --------------------------------------------------------------------------------------- failures during the work


@pytest.mark.parametrize(
    ("arguments", "code", "said", "left"),
    [
        (["-k", "mode=broken"], PARITY, "rounder does not compute", ["net.int8.rounder.failed"]),
        (["--max-drop", "1e-9", "-k", "bits=3"], PARITY, "--max-drop allows 1e-09", ["net.int8.rounder.failed"]),
        (["--calibration", "{tmp}/wide.npz"], INPUT, "size 7 on axis 1", []),
        (["--dim", "batch=64"], OPTION, "batch can't be 64", []),
        (["-t", "presser", "-k", "rounder.mode=broken"], PARITY, "does not compute", None),
    ],
)
def test_a_chain_that_fails_at_a_late_step_leaves_all_of_the_old_one(
    arguments, code, said, left, export, standing, tmp_path
):
    """Also the steps before the one that fails, which were made anew and finished."""
    import numpy as np

    np.savez(tmp_path / "wide.npz", x=np.zeros((9, 7), np.float32))
    before = files(standing)
    result = export(*INT8, *(each.format(tmp=tmp_path) for each in arguments))
    assert result.code == code, result.err
    assert said in result.err
    after = files(standing)
    assert {file: after[file] for file in before} == before
    if left is not None:
        assert sorted(path.name for path in standing.iterdir()) == sorted([*CHAIN, *left])


def test_a_second_target_that_fails_leaves_the_first_as_it_was(export, standing, mark):
    before = files(standing)
    result = export("-t", "rounder", "-t", "permuter")
    assert result.code != 0
    assert mark.exists()
    assert files(standing) == before


def test_a_place_that_is_taken_during_the_work_keeps_every_target_from_its_place(export, net, standing):
    """The folder of somebody's appears while the model is loaded: before the first result is put in place."""
    before, theirs = files(standing), standing / "net.packer" / "mine"
    edit(net, (".touch()", f".touch()\n    Path({str(theirs)!r}).mkdir(parents=True)"))
    result = export("-t", "rounder", "-t", "packer")
    assert result.code == OUTPUT
    assert "net.packer is there and is not an artifact" in result.error
    assert files(standing) == before


@pytest.mark.parametrize("name", ["../net", "a/b", "..", ".hidden", ""])
def test_a_name_is_no_path(export, mark, tmp_path, name):
    result = export("-t", "rounder", "--name", name)
    assert result.code == OPTION
    assert repr(name) in result.error
    assert "-o says where" in result.hint
    assert not mark.exists()
    assert not (tmp_path / "build").exists()


def test_what_is_finished_goes_where_nothing_stands(export, mark, tmp_path):
    """A long chain can be taken up again: but for what would replace something."""
    result = export(*INT8, "-k", "mode=broken")
    assert result.code == PARITY
    names = sorted(path.name for path in (tmp_path / "build").iterdir())
    assert names == ["net.int8.rounder.failed", "net.optimized.rounder", "net.rounder"]


@pytest.mark.parametrize("verb", ["optimize", "quantize"])
def test_a_verb_that_fails_leaves_the_copy_that_was_there(verb, rounded, tmp_path):
    source = shutil.copytree(rounded / "net.rounder", tmp_path / "net.rounder")
    getattr(modelexport, verb)(source)
    before = files(tmp_path)
    with pytest.raises(errors.ParityError, match="does not compute what the source computes"):
        getattr(modelexport, verb)(source, tolerance=EXACT)
    after = files(tmp_path)
    assert {file: after[file] for file in before} == before
    assert (tmp_path / f"net.{verb}d.rounder.failed").is_dir()
