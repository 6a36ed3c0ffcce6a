"""`mx export` with bad input of every kind: each row is a command line, its exit code, and what must be named."""

import os
import sys
from pathlib import Path

import pytest

from core.tests.unit.cli.conftest import INPUT, OPTION, OUTPUT, REFERENCE, SOURCE, TARGET, USAGE

pytestmark = pytest.mark.usefixtures("toys")

FAULTY = Path(__file__).parents[2] / "nets" / "faulty.py"


def at(text):
    """The line of the nets that holds this text, as errors name it."""
    lines = FAULTY.read_text(encoding="utf-8").splitlines()
    return f"nets.py:{next(number for number, line in enumerate(lines, 1) if text in line)}"


EXPORTS = {
    "missing path": (
        ["no-such-thing", "-t", "tape"],
        SOURCE,
        ["'no-such-thing'", "no such path", "file.py:factory"],
    ),
    "missing file": (["@gone.py:net", "-t", "tape"], SOURCE, ["no file", "gone.py"]),
    "missing module": (["gone.nets:net", "-t", "tape"], SOURCE, ["gone", "spelling"]),
    "missing program": (["@gone.pt2", "-t", "tape"], SOURCE, ["no file", "gone.pt2"]),
    "missing tape file": (["@gone.tape", "-t", "tape"], SOURCE, ["no file", "gone.tape"]),
    "damaged program": (["@notes.txt:net", "-t", "tape"], SOURCE, ["notes.txt"]),
    "damaged tape file": (["@bad.file.tape", "-t", "tape"], SOURCE, ["is no tape", "bad.file.tape"]),
    "wrong attribute": (["@nets.py:goood", "-t", "tape"], SOURCE, ["'goood'", "did you mean 'good'?"]),
    "far attribute": (["@nets.py:zzz", "-t", "tape"], SOURCE, ["'zzz'", "it has", "without_inputs"]),
    "no factory": (["@nets.py", "-t", "tape"], SOURCE, ["names no factory", "nets.py:FUNCTION"]),
    "factory raises": (
        ["@nets.py:raises", "-t", "tape"],
        SOURCE,
        ["KeyError", at('sizes["width"]'), 'sizes["width"]'],
    ),
    "factory exits": (["@nets.py:exits", "-t", "tape"], SOURCE, ["SystemExit", "no licence", at("no licence")]),
    "factory returns nothing": (["@nets.py:nothing", "-t", "tape"], SOURCE, ["nothing()", "None", "nn.Module"]),
    "factory returns a text": (["@nets.py:text", "-t", "tape"], SOURCE, ["text()", "a str", "nn.Module"]),
    "syntax error": (["@broken.py:net", "-t", "tape"], SOURCE, ["SyntaxError", "broken.py", "line 3"]),
    "missing import": (["@lacks.py:net", "-t", "tape"], SOURCE, ["no_such_package", "lacks.py:2"]),
    "weights for a model": (
        ["@weights.pth", "-t", "tape"],
        SOURCE,
        ["holds weights", "file.py:factory --weights"],
    ),
    "unknown format": (["@notes.txt", "-t", "tape"], SOURCE, ["notes.txt", "file.py:factory"]),
    "unknown folder": (["@here", "-t", "tape"], SOURCE, ["here", "file.py:factory"]),
    "own format": (["@two.tape", "-t", "tape"], SOURCE, ["is a tape artifact already", "another --target"]),
    "missing register": (["@nets.py:good", "-t", "tape", "--register", "gone_ops"], SOURCE, ["'gone_ops'"]),
    "nan": (["@nets.py:nan", "-t", "tape"], REFERENCE, ["NaN", "'output'", "weights"]),
    "model fails": (
        ["@nets.py:fails", "-t", "tape"],
        REFERENCE,
        [at("x.reshape(-1, 7)"), "RuntimeError", "x[2, 4]"],
    ),
    "example in a list": (
        ["@nets.py:list_example", "-t", "tape"],
        INPUT,
        ["list", "not a tensor", "wrap the model"],
    ),
    "unknown inputs": (["@nets.py:without_inputs", "-t", "tape"], INPUT, ["inputs are unknown", "--input"]),
    "integer without values": (
        ["@nets.py:embedding", "-t", "tape", "--input", "input:int64[batch,5]"],
        INPUT,
        ["'input'", "values", '--input "input:int64[batch,5]=0..'],
    ),
    "too few inputs declared": (
        ["@nets.py:good", "-t", "tape", "--input", "a:float32[batch,4]", "--input", "b:float32[batch,4]"],
        INPUT,
        ["2 inputs are declared, the example has 1", "declare every input"],
    ),
    "malformed declaration": (
        ["@nets.py:good", "-t", "tape", "--input", "x;4"],
        OPTION,
        ["'x;4'", "write it like"],
    ),
    "unknown dtype": (
        ["@nets.py:good", "-t", "tape", "--input", "x:float31[4]"],
        OPTION,
        ["'float31'", "float32"],
    ),
    "bad dim": (["@nets.py:good", "-t", "tape", "--input", "x:float32[-3,4]"], OPTION, ["'-3'", "batch=1..32"]),
    "empty bounds": (
        ["@nets.py:good", "-t", "tape", "--input", "x:float32[b=9..2,4]"],
        OPTION,
        ["'b=9..2'", "empty"],
    ),
    "bad values": (["@nets.py:good", "-t", "tape", "--input", "x:float32[4]=some"], OPTION, ["'some'", "=mask"]),
    "infinite tolerance": (["@nets.py:good", "-t", "tape", "--tolerance", "inf"], OPTION, ["atol goes from 0 on"]),
    "no tolerance": (["@nets.py:good", "-t", "tape", "--tolerance", ""], OPTION, ["can't read --tolerance ''"]),
    "impossible cosine": (
        ["@nets.py:good", "-t", "tape", "--tolerance", "cosine=3"],
        OPTION,
        ["cosine=3 is out of range", "cosine goes from -1 to 1"],
    ),
    "tolerance for no gate": (
        ["@nets.py:good", "-t", "tape", "--tolerance", "1e-3", "--no-verify"],
        OPTION,
        ["--no-verify"],
    ),
    "task of a factory": (
        ["@nets.py:raises", "-t", "tape", "--task", "foo"],
        OPTION,
        ["--task foo is of no use", "nets.py:raises"],
    ),
    "task of a program": (["@gone.pt2", "-t", "tape", "--task", "foo"], OPTION, ["--task foo is of no use"]),
    "task of an artifact": (["@two.tape", "-t", "packer", "--task", "foo"], OPTION, ["--task foo", "two.tape"]),
    "task of a tape file": (["@two.tape/model.tape", "-t", "stamper", "--task", "foo"], OPTION, ["--task foo"]),
    "weights of an artifact": (
        ["@two.tape", "-t", "stamper", "--weights", "@bomb.pt"],
        SOURCE,
        ["bomb.pt"],
    ),
    "inputs of an artifact": (
        ["@two.tape", "-t", "stamper", "--input", "x:float32[2]"],
        OPTION,
        ["--input does not go with", "two.tape"],
    ),
    "samples of nothing": (
        ["@nets.py:good", "-t", "tape", "--samples", "3"],
        OPTION,
        ["--samples, --seed and --column", "--calibration"],
    ),
    "option of another target": (
        ["@nets.py:good", "-t", "tape", "-k", "rounder.scale=2"],
        OPTION,
        ["-k rounder.scale is for a target that is not asked for", "add -t rounder"],
    ),
    "option of no target": (
        ["@nets.py:good", "-t", "tape", "-k", "gone.scale=2"],
        OPTION,
        ["-k gone.scale: there is no target 'gone'", "those of tape"],
    ),
    "no function": (["@nets.py:", "-t", "tape"], SOURCE, ["names nothing in", "nets.py:FUNCTION"]),
    "place in an artifact": (
        ["@nets.py:good", "-t", "tape", "-o", "@two.tape/sub"],
        OUTPUT,
        ["is in the artifact", "two.tape"],
    ),
    "place that is an artifact": (
        ["@nets.py:good", "-t", "tape", "-o", "@two.tape", "--name", "x"],
        OUTPUT,
        ["is in the artifact"],
    ),
    "task without such": (["@nets.py:good", "-t", "tape", "--tolerance", "tight"], OPTION, ["'tight'", "1e-3"]),
    "negative tolerance": (
        ["@nets.py:good", "-t", "tape", "--tolerance", "atol=-1"],
        OPTION,
        ["atol=-1", "atol goes from 0"],
    ),
    "missing sample": (["@nets.py:good", "-t", "tape", "--sample", "@gone.npz"], INPUT, ["no file", "gone.npz"]),
    "unknown target": (["@nets.py:good", "-t", "tapee"], TARGET, ["'tapee'", "did you mean 'tape'?"]),
    "far target": (["@nets.py:good", "-t", "zzzz"], TARGET, ["unknown target 'zzzz'", "one of", "mx targets"]),
    "unknown option": (
        ["@nets.py:good", "-t", "tape", "-k", "versoin=2"],
        OPTION,
        ["'versoin'", "did you mean 'version'?"],
    ),
    "far option": (["@nets.py:good", "-t", "tape", "-k", "zzz=1"], OPTION, ["'zzz'", "one of", "licence"]),
    "wrong type": (
        ["@nets.py:good", "-t", "tape", "-k", "version=high"],
        OPTION,
        ["version=high", "a whole number"],
    ),
    "wrong truth": (
        ["@nets.py:good", "-t", "tape", "-k", "compact=maybe"],
        OPTION,
        ["compact=maybe", "true or false"],
    ),
    "wrong choice": (
        ["@nets.py:good", "-t", "tape", "-k", "weights=no"],
        OPTION,
        ["weights=no", "one of inside, beside"],
    ),
    "no equals sign": (["@nets.py:good", "-t", "tape", "-k", "version"], OPTION, ["'version'", "key=value"]),
    "twice": (
        ["@nets.py:good", "-t", "tape", "-k", "version=2", "-k", "version=3"],
        OPTION,
        ["'version'", "twice"],
    ),
    "impossible version": (
        ["@nets.py:good", "-t", "tape", "-k", "version=9"],
        OPTION,
        ["version 9", "1 to 3", "version=3"],
    ),
    "option that names a missing file": (
        ["@nets.py:good", "-t", "tape", "-k", "licence=@gone.txt"],
        OPTION,
        ["licence=", "gone.txt: there is no such file"],
    ),
    "place is taken": (
        ["@nets.py:good", "-t", "tape", "-o", "@", "--name", "holds"],
        OUTPUT,
        ["holds.tape", "--name"],
    ),
    "place is a file": (["@nets.py:good", "-t", "tape", "-o", "@notes.txt"], OUTPUT, ["notes.txt", "-o"]),
    "no target given": (["@nets.py:good"], USAGE, ["--target", "mx export --help"]),
    "no source given": (["-t", "tape"], USAGE, ["SOURCE", "mx export --help"]),
    "unknown flag": (["@nets.py:good", "-t", "tape", "--verify"], USAGE, ["--verify", "--no-verify"]),
}


@pytest.mark.parametrize("row", EXPORTS, ids=lambda row: row.replace(" ", "-"))
def test_export_refuses(refused, row):
    arguments, code, facts = EXPORTS[row]
    refused(["export", *arguments], code, *facts)


def test_a_task_for_something_without_tasks_is_no_crash(refused, place):
    refused(["export", "@here", "-t", "tape", "--task", "text-clasification"], SOURCE)


def test_a_known_target_that_is_not_installed_names_its_install_line(refused, monkeypatch):
    from modelexport.plugins import known

    monkeypatch.setitem(known.TARGETS, "somewhere", ("Somewhere else", "pip install modelexport-somewhere"))
    result = refused(["export", "@nets.py:good", "-t", "somewhere"], TARGET, "'somewhere' is not installed")
    assert result.hint == "pip install modelexport-somewhere"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_read_only_output_folder(refused, place, monkeypatch):
    """As root, permissions stop nobody: a file system that refuses is stood in for by the kernel's /proc."""
    if os.geteuid() == 0:
        refused(["export", "@nets.py:good", "-t", "tape", "-o", "/proc/1/out"], OUTPUT, "/proc/1/out", "-o")
        return
    (place / "locked").mkdir(mode=0o500)
    refused(["export", "@nets.py:good", "-t", "tape", "-o", "@locked"], OUTPUT, "locked", "may write to")
