"""`mx run`, `mx benchmark` and `mx verify` with bad input of every kind, and `mx` itself."""

import numpy as np
import pytest

from core.tests.unit.cli.conftest import INPUT, OPTION, OUTPUT, SOURCE, USAGE

pytestmark = pytest.mark.usefixtures("toys")


def feed(place, name="in.npz", **arrays):
    good = {"x": np.zeros((2, 4), np.float32), "ids": np.zeros((2, 3), np.int64)}
    arrays = {key: value for key, value in {**good, **arrays}.items() if value is not None}
    np.savez(place / name, **arrays)
    return ["--input", f"@{name}"]


FEEDS = {
    "wrong name": (lambda p: feed(p, y=np.zeros(2)), ["no input 'y'", "x:float32"]),
    "missing input": (lambda p: feed(p, ids=None), ["'ids' is missing", "ids:int64"]),
    "wrong dtype": (lambda p: feed(p, x=np.zeros((2, 4))), ["'x' has dtype float64", "takes float32"]),
    "wrong rank": (lambda p: feed(p, x=np.zeros(4, np.float32)), ["'x' has rank 1", "takes 2"]),
    "wrong size": (lambda p: feed(p, x=np.zeros((2, 5), np.float32)), ["'x' has size 5 on axis 1", "takes 4"]),
    "too large": (
        lambda p: feed(p, x=np.zeros((9, 4), np.float32), ids=np.zeros((9, 3), np.int64)),
        ["'x' has size 9 on axis 0 (batch)", "batch=1..8"],
    ),
    "empty": (
        lambda p: feed(p, x=np.zeros((0, 4), np.float32), ids=np.zeros((0, 3), np.int64)),
        ["'x' has size 0 on axis 0 (batch)"],
    ),
    "unequal dims": (lambda p: feed(p, ids=np.zeros((3, 3), np.int64)), ["'ids' has batch=3", "has 2"]),
    "missing file": (lambda p: ["--input", "@gone.npz"], ["no file", "gone.npz"]),
    "corrupt npz": (lambda p: (p / "c.npz").write_bytes(b"PK\3\4 nonsense") and ["--input", "@c.npz"], ["c.npz"]),
    "pickle in npz": (lambda p: feed(p, x=np.array([{}], object)), ["in.npz"]),
    "corrupt json": (
        lambda p: (p / "c.json").write_text('{"x": ') and ["--input", "@c.json"],
        ["c.json", "object"],
    ),
    "json list": (
        lambda p: (p / "c.json").write_text("[1]") and ["--input", "@c.json"],
        ["a list, not an object"],
    ),
    "json text": (lambda p: (p / "c.json").write_text('{"x": "a"}') and ["--input", "@c.json"], ["'x'"]),
    "json stranger": (
        lambda p: (p / "c.json").write_text('{"z": [1]}') and ["--input", "@c.json"],
        ["no input 'z'"],
    ),
    "ragged": (lambda p: (p / "c.json").write_text('{"x": [[1], [1, 2]]}') and ["--input", "@c.json"], ["'x'"]),
    "fractions": (
        lambda p: (p / "c.json").write_text('{"ids": [[0.5]], "x": [[1, 1, 1, 1]]}') and ["--input", "@c.json"],
        ["'ids'", "whole numbers"],
    ),
    "fraction": (lambda p: ["--input", "x=1", "--input", "ids=0.5"], ["'ids'", "whole numbers"]),
    "out of range": (lambda p: ["--input", "x=1", "--input", "ids=1e30"], ["'ids'", "in range"]),
    "unknown name": (lambda p: ["--input", "y=1"], ["no input 'y'", "its inputs"]),
    "no number": (lambda p: ["--input", "x=abc"], ["'x'", "'abc'", "a number or a list"]),
    "a JSON object": (lambda p: ["--input", 'x={"a": 1}'], ["'x'"]),
    "a JSON text": (lambda p: ["--input", 'x="a"'], ["'x'"]),
    "null": (lambda p: ["--input", "x=null"], ["'x'"]),
    "missing npy": (lambda p: ["--input", "x=@gone.npy"], ["gone.npy"]),
    "unknown file": (lambda p: ["--input", "@notes.txt"], ["notes.txt", ".npz"]),
    "nothing": (lambda p: [], ["nothing to run", "--input", "x:float32"]),
    "text without tokenizer": (lambda p: ["--text", "hello"], ["no tokenizer", "--input"]),
    "the name of a file as text": (lambda p: ["--text", "@notes.txt"], ["notes.txt names a file", "$(cat"]),
    "the name of a file that is gone": (lambda p: ["--text", "review.TXT"], ["review.TXT names a file"]),
    "the name of a file as passage": (
        lambda p: ["--text", "who?", "--context", "@notes.txt"],
        ["--context", "notes.txt names a file", '--context "$(cat'],
    ),
    "more texts than passages": (
        lambda p: ["--text", "a", "--text", "b", "--text", "c", "--context", "x", "--context", "y"],
        ["3 --text and 2 --context", "one for each text"],
    ),
    "fewer texts than passages": (
        lambda p: ["--text", "a", "--context", "x", "--context", "y"],
        ["1 --text and 2 --context"],
    ),
    "an empty passage": (lambda p: ["--text", "a", "--context", " "], ["--context is empty"]),
    "image without preprocessing": (lambda p: ["--image", "@notes.txt"], ["no image preprocessing", "--input"]),
}


@pytest.mark.parametrize("row", FEEDS, ids=lambda row: row.replace(" ", "-"))
def test_run_refuses(refused, place, row):
    prepare, facts = FEEDS[row]
    arguments = prepare(place)
    refused(["run", "@two.tape", *arguments], INPUT, *facts)


def test_run_refuses_an_output_that_it_can_not_write(refused, place):
    arguments = ["run", "@two.tape", *feed(place), "--output"]
    refused([*arguments, "@out.csv"], OPTION, "out.csv", ".npz or a .json")
    gone = refused([*arguments, "@gone/out.npz"], OUTPUT, "gone/out.npz", "no folder")
    assert "--output" in gone.hint
    refused([*arguments, "@two.tape/out.npz"], OUTPUT, "two.tape is in the artifact")


def test_run_refuses_options(refused, place):
    given = feed(place)
    refused(["run", "@two.tape", *given, "-k", "thread=2"], OPTION, "'thread'", "did you mean 'threads'?")
    refused(
        ["run", "@two.tape", *given, "-k", "devices=warp"],
        OPTION,
        "devices=warp is not allowed",
        "one of abacus, cpu",
    )
    refused(["run", "@two.tape", *given, "-k", "threads=many"], OPTION, "threads=many", "a whole number")


def test_benchmark_refuses(refused, place):
    refused(["benchmark", "@two.tape", "--dim", "length=3"], OPTION, "'length'", "batch, seq")
    refused(["benchmark", "@two.tape", "--dim", "batch=many"], OPTION, "'many'", "--dim batch=8")
    refused(["benchmark", "@two.tape", "--dim", "batch=99"], OPTION, "99", "batch=1..8")
    refused(["benchmark", "@two.tape", "--dim", "batch"], OPTION, "'batch'")
    refused(["benchmark", "@two.tape", "--runs", "0"], OPTION, "at least one run", "--runs 1")
    refused(["benchmark", "@two.tape", "--runs", "few"], USAGE, "'few'", "mx benchmark --help")
    refused(["benchmark", "@two.tape", "--threads", "0"], USAGE, "--threads", "mx benchmark --help")
    refused(["benchmark"], USAGE, "ARTIFACTS", "mx benchmark --help")
    refused(["benchmark", "@two.tape", "--input", "@gone.npz"], INPUT, "gone.npz")
    refused(["benchmark", "@two.tape", "--baseline", "@gone.py:net"], SOURCE, "gone.py")


@pytest.mark.parametrize("baseline", [[], ["--baseline", "@two.tape"]], ids=["none", "artifact"])
def test_benchmark_refuses_what_is_said_of_no_source(refused, place, baseline):
    for arguments in (["--compile"], ["--task", "foo"], ["--weights", "@nets.py"]):
        refused(["benchmark", "@two.tape", *baseline, *arguments], OPTION, arguments[0], "--baseline")


def test_benchmark_refuses_an_option_that_no_artifact_has(refused, place):
    refused(["benchmark", "@two.tape", "-k", "thread=2"], OPTION, "did you mean 'threads'?")
    refused(["benchmark", "@two.tape", "-k", "rounder.x=2"], OPTION, "-k rounder.x is for a target that is not")


@pytest.mark.parametrize(
    "arguments", [["--weights", "@gone.pt"], ["--task", "foo"], ["--allow-pickle"], ["--allow-download"]], ids=str
)
def test_verify_refuses_what_is_said_of_no_source(refused, arguments):
    refused(["verify", "@two.tape", *arguments], OPTION, arguments[0], "add --source")


def test_run_refuses_a_context_without_text(refused, place):
    refused(["run", "@two.tape", *feed(place), "--context", "The cat sat."], USAGE, "--context", "--text")


@pytest.mark.parametrize("verb", ["quantize", "optimize"])
def test_nothing_is_written_into_an_artifact(refused, verb, rounded):
    refused([verb, rounded / "net.rounder", "-o", "@two.tape/sub"], OUTPUT, "is in the artifact", "two.tape")
    refused([verb, rounded / "net.rounder", "-o", "@two.tape/a/b"], OUTPUT, "is in the artifact")


def test_no_plugin_is_started_in_an_artifact(refused):
    refused(["plugin", "new", "mine", "-o", "@two.tape"], OUTPUT, "is in the artifact", "two.tape")


def test_verify_refuses_a_sample_without_the_source(refused, place):
    refused(["verify", "@two.tape", *feed(place)[1:]], USAGE, "mx verify --help")
    refused(["verify", "@two.tape", "--sample", "@in.npz"], OPTION, "--source")


# --------------------------------------------------------------------------------------- the command itself


def test_an_unknown_command(refused):
    refused(["exprot"], USAGE, "'exprot'", "did you mean 'export'?")
    refused(["zzz"], USAGE, "'zzz'", "one of export")


def test_an_unknown_shell(refused):
    refused(["completion", "tcsh"], USAGE, "'tcsh'", "bash")


def test_the_error_as_json(refused, place):
    result = refused(["export", "@nets.py:goood", "-t", "tape", "--json"], SOURCE)
    assert result.json == {
        "error": {
            "kind": "SourceError",
            "exit_code": SOURCE,
            "message": f"there is no 'goood' in {place}/nets.py",
            "hint": "did you mean 'good'?",
        }
    }
    usage = refused(["export", "@nets.py:good", "--json"], USAGE).json["error"]
    assert (usage["kind"], usage["exit_code"]) == ("UsageError", USAGE)


def test_debug_shows_the_users_own_line(mx, place):
    result = mx("export", f"{place / 'nets.py'}:raises", "-t", "tape", "--debug")
    assert result.code == SOURCE
    assert "Traceback" in result.err
    assert 'nn.Linear(sizes["width"], 3)' in result.err
    assert "KeyError: 'width'" in result.err
