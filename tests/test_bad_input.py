"""Bad input of every kind: one line that says what is wrong and where, a hint, an exit code of its own, no trace.

Each row of a table is a command line, the exit code, and what message and hint must name. Everything runs in an
empty folder, which must hold nothing new afterwards.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import modelexport
import numpy as np
import pytest
import torch

USAGE, PARITY, SOURCE, TARGET, OPTION, OUTPUT, ARTIFACT, INPUT = 2, 3, 4, 5, 6, 7, 8, 9
REFERENCE, UNSAFE = 12, 14

NETS = '''"""Small nets, good and bad."""
import torch
from torch import nn

X = "x:float32[batch=1..8,4]"


def good():
    torch.manual_seed(0)
    return nn.Linear(4, 3), (torch.zeros(2, 4),)


def without_inputs():
    return nn.Linear(4, 3)


def embedding():
    return nn.Embedding(10, 3)


def raises():
    sizes = {"hidden": 4}
    return nn.Linear(sizes["width"], 3)


def exits():
    raise SystemExit("no licence")


def nothing():
    pass


def text():
    return "a model"


def nan():
    model = nn.Linear(4, 3)
    model.weight.data[1, 2] = float("nan")
    return model, (torch.zeros(2, 4),)


class Fails(nn.Module):
    def forward(self, x):
        return x.reshape(-1, 7)


def fails():
    return Fails(), (torch.zeros(2, 4),)


def list_example():
    return nn.Linear(4, 3), ([torch.zeros(2, 4)],)
'''


@pytest.fixture
def place(tmp_path, monkeypatch, artifact):
    """An empty current folder; the nets in a file beside it, and a copy of the artifact."""
    (tmp_path / "here").mkdir()
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "broken.py").write_text("import torch\n\ndef net(:\n    pass\n")
    (tmp_path / "lacks.py").write_text("import torch\nimport no_such_package\n")
    shutil.copytree(artifact, tmp_path / "two.onnx")
    (tmp_path / "holds.onnx").mkdir()
    (tmp_path / "holds.onnx" / "precious.txt").write_text("mine")
    for name in ("weights.safetensors", "graph.keras", "notes.txt", "weights.pth"):
        (tmp_path / name).write_bytes(b"not what it says")
    (tmp_path / "bad.onnx.file.onnx").write_bytes(b"\x08\x07not a model")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.fixture
def refused(mx, place):
    """Run a command that must fail; returns the result after the checks that hold for every bad input."""

    def run(arguments, code, *facts, leaves=()):
        before = {path: path.stat().st_mtime_ns for path in place.rglob("*") if "__pycache__" not in path.parts}
        result = mx(*(str(argument).replace("@", f"{place}/") for argument in arguments))
        after = {path: path.stat().st_mtime_ns for path in place.rglob("*") if "__pycache__" not in path.parts}
        assert "Traceback" not in result.out + result.err
        assert result.error  # one line, and at most one more with the hint
        assert result.hint, result.err
        assert result.code == code, result.err
        for fact in facts:
            assert fact in result.err, result.err
        new = {str(path.relative_to(place)) for path in set(after) - set(before)} - {"here/build"}
        assert new == set(leaves)
        assert {path for path in before if after.get(path) != before[path]} <= {place / "here"}
        return result

    return run


# --------------------------------------------------------------------------------------- sources

GOOD = ["-t", "onnx", "--input", "x:float32[batch,4]"]

EXPORTS = {
    "missing path": (
        ["no-such-thing", "-t", "onnx"],
        SOURCE,
        ["'no-such-thing'", "no such path", "file.py:factory"],
    ),
    "missing file": (["@gone.py:net", "-t", "onnx"], SOURCE, ["no file", "gone.py"]),
    "missing module": (["gone.nets:net", "-t", "onnx"], SOURCE, ["gone", "spelling"]),
    "missing program": (["@gone.pt2", "-t", "onnx"], SOURCE, ["no file", "gone.pt2"]),
    "missing onnx file": (["@gone.onnx", "-t", "onnx"], SOURCE, ["no file", "gone.onnx"]),
    "damaged program": (["@notes.txt:net", "-t", "onnx"], SOURCE, ["notes.txt"]),
    "damaged onnx file": (["@bad.onnx.file.onnx", "-t", "onnx"], SOURCE, ["no ONNX model", "bad.onnx.file.onnx"]),
    "wrong attribute": (["@nets.py:goood", "-t", "onnx"], SOURCE, ["'goood'", "did you mean 'good'?"]),
    "far attribute": (["@nets.py:zzz", "-t", "onnx"], SOURCE, ["'zzz'", "it has", "without_inputs"]),
    "no factory": (["@nets.py", "-t", "onnx"], SOURCE, ["names no factory", "nets.py:FUNCTION"]),
    "factory raises": (["@nets.py:raises", "-t", "onnx"], SOURCE, ["KeyError", "nets.py:23", 'sizes["width"]']),
    "factory exits": (["@nets.py:exits", "-t", "onnx"], SOURCE, ["SystemExit", "no licence", "nets.py:27"]),
    "factory returns nothing": (["@nets.py:nothing", "-t", "onnx"], SOURCE, ["nothing()", "None", "nn.Module"]),
    "factory returns a text": (["@nets.py:text", "-t", "onnx"], SOURCE, ["text()", "a str", "nn.Module"]),
    "syntax error": (["@broken.py:net", "-t", "onnx"], SOURCE, ["SyntaxError", "broken.py", "line 3"]),
    "missing import": (["@lacks.py:net", "-t", "onnx"], SOURCE, ["no_such_package", "lacks.py:2"]),
    "weights for a model": (
        ["@weights.pth", "-t", "onnx"],
        SOURCE,
        ["holds weights", "file.py:factory --weights"],
    ),
    "unknown format": (["@notes.txt", "-t", "onnx"], SOURCE, ["notes.txt", "file.py:factory"]),
    "unknown folder": (["@here", "-t", "onnx"], SOURCE, ["here", "file.py:factory"]),
    "own format": (["@two.onnx", "-t", "onnx"], SOURCE, ["is a onnx artifact already", "another --target"]),
    "missing register": (["@nets.py:good", "-t", "onnx", "--register", "gone_ops"], SOURCE, ["'gone_ops'"]),
    "nan": (["@nets.py:nan", "-t", "onnx"], REFERENCE, ["NaN", "'output'", "weights"]),
    "model fails": (["@nets.py:fails", "-t", "onnx"], REFERENCE, ["nets.py:46", "RuntimeError", "x[2, 4]"]),
    "example in a list": (
        ["@nets.py:list_example", "-t", "onnx"],
        INPUT,
        ["list", "not a tensor", "wrap the model"],
    ),
    "unknown inputs": (["@nets.py:without_inputs", "-t", "onnx"], INPUT, ["inputs are unknown", "--input"]),
    "integer without values": (
        ["@nets.py:embedding", "-t", "onnx", "--input", "input:int64[batch,5]"],
        INPUT,
        ["'input'", "values", '--input "input:int64[batch,5]=0..'],
    ),
    "too few inputs declared": (
        ["@nets.py:good", "-t", "onnx", "--input", "a:float32[batch,4]", "--input", "b:float32[batch,4]"],
        INPUT,
        ["2 inputs are declared, the example has 1", "declare every input"],
    ),
    "malformed declaration": (
        ["@nets.py:good", "-t", "onnx", "--input", "x;4"],
        OPTION,
        ["'x;4'", "write it like"],
    ),
    "unknown dtype": (
        ["@nets.py:good", "-t", "onnx", "--input", "x:float31[4]"],
        OPTION,
        ["'float31'", "float32"],
    ),
    "bad dim": (["@nets.py:good", "-t", "onnx", "--input", "x:float32[-3,4]"], OPTION, ["'-3'", "batch=1..32"]),
    "empty bounds": (
        ["@nets.py:good", "-t", "onnx", "--input", "x:float32[b=9..2,4]"],
        OPTION,
        ["'b=9..2'", "empty"],
    ),
    "bad values": (["@nets.py:good", "-t", "onnx", "--input", "x:float32[4]=some"], OPTION, ["'some'", "=mask"]),
    "task without such": (["@nets.py:good", "-t", "onnx", "--tolerance", "tight"], OPTION, ["'tight'", "1e-3"]),
    "negative tolerance": (
        ["@nets.py:good", "-t", "onnx", "--tolerance", "atol=-1"],
        OPTION,
        ["atol=-1", "cosine"],
    ),
    "missing sample": (["@nets.py:good", "-t", "onnx", "--sample", "@gone.npz"], INPUT, ["no file", "gone.npz"]),
    "unknown target": (["@nets.py:good", "-t", "onxx"], TARGET, ["'onxx'", "did you mean 'onnx'?"]),
    "far target": (["@nets.py:good", "-t", "zzzz"], TARGET, ["unknown target 'zzzz'", "one of", "mx targets"]),
    "unknown option": (
        ["@nets.py:good", "-t", "onnx", "-k", "opsett=20"],
        OPTION,
        ["'opsett'", "did you mean 'opset'?"],
    ),
    "far option": (["@nets.py:good", "-t", "onnx", "-k", "zzz=1"], OPTION, ["'zzz'", "one of", "external-data"]),
    "wrong type": (["@nets.py:good", "-t", "onnx", "-k", "opset=high"], OPTION, ["opset=high", "a whole number"]),
    "wrong truth": (
        ["@nets.py:good", "-t", "onnx", "-k", "optimize=maybe"],
        OPTION,
        ["optimize=maybe", "true or false"],
    ),
    "wrong choice": (
        ["@nets.py:good", "-t", "onnx", "-k", "external-data=no"],
        OPTION,
        ["external-data=no", "always"],
    ),
    "no equals sign": (["@nets.py:good", "-t", "onnx", "-k", "opset"], OPTION, ["'opset'", "key=value"]),
    "twice": (["@nets.py:good", "-t", "onnx", "-k", "opset=20", "-k", "opset=21"], OPTION, ["'opset'", "twice"]),
    "impossible opset": (
        ["@nets.py:good", "-t", "onnx", "-k", "opset=9"],
        OPTION,
        ["opset 9", "18 to", "opset=18"],
    ),
    "place is taken": (
        ["@nets.py:good", "-t", "onnx", "-o", "@", "--name", "holds"],
        OUTPUT,
        ["holds.onnx", "--name"],
    ),
    "place is a file": (["@nets.py:good", "-t", "onnx", "-o", "@notes.txt"], OUTPUT, ["notes.txt", "-o"]),
    "no target given": (["@nets.py:good"], USAGE, ["--target", "mx export --help"]),
    "no source given": (["-t", "onnx"], USAGE, ["SOURCE", "mx export --help"]),
    "unknown flag": (["@nets.py:good", "-t", "onnx", "--verify"], USAGE, ["--verify", "--no-verify"]),
}


@pytest.mark.parametrize("row", EXPORTS, ids=lambda row: row.replace(" ", "-"))
def test_export_refuses(refused, row):
    arguments, code, facts = EXPORTS[row]
    refused(["export", *arguments], code, *facts)


def test_a_task_for_something_without_tasks_is_no_crash(refused, place):
    refused(["export", "@here", "-t", "onnx", "--task", "text-clasification"], SOURCE)


def test_a_known_target_that_is_not_installed_names_its_install_line(refused, monkeypatch):
    from modelexport.plugins import known

    monkeypatch.setitem(known.TARGETS, "somewhere", ("Somewhere else", "pip install modelexport-somewhere"))
    result = refused(["export", "@nets.py:good", "-t", "somewhere"], TARGET, "'somewhere' is not installed")
    assert result.hint == "pip install modelexport-somewhere"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_read_only_output_folder(refused, place, monkeypatch):
    """As root, permissions stop nobody: a file system that refuses is stood in for by the kernel's /proc."""
    import os

    if os.geteuid() == 0:
        refused(["export", "@nets.py:good", "-t", "onnx", "-o", "/proc/1/out"], OUTPUT, "/proc/1/out", "-o")
        return
    (place / "locked").mkdir(mode=0o500)
    refused(["export", "@nets.py:good", "-t", "onnx", "-o", "@locked"], OUTPUT, "locked", "may write to")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
@pytest.mark.parametrize("limit", [2_000, 200_000])
def test_a_full_disk(place, limit):
    """A file may not grow past the limit, as on a disk that is full: while the model or its golden is written."""
    (place / "big.py").write_text(
        "import torch\ndef net():\n    return torch.nn.Linear(300, 300), (torch.zeros(2, 300),)\n"
    )
    code = (
        "import resource, signal, sys; from modelexport import cli;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        f"sys.exit(cli._run(['export', {str(place / 'big.py')!r} + ':net', '-t', 'onnx']))"
    )
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == OUTPUT, done.stderr
    assert done.stderr.startswith("error: can't write")
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((place / "here" / "build").glob("*"))
    assert not list((place / "here" / "build").glob(".*"))


# --------------------------------------------------------------------------------------- weights


def state(**changes):
    tensors = {"weight": torch.ones(3, 4), "bias": torch.zeros(3)}
    tensors |= changes
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def save(tensors, path):
    from safetensors.torch import save_file

    save_file(tensors, path)
    return path


WEIGHTS = {
    "missing": (state(bias=None), ["1 missing (bias)"]),
    "unexpected": (state(scale=torch.ones(1)), ["1 unexpected (scale)"]),
    "wrong shape": (state(weight=torch.ones(3, 5)), ["weight has shape [3, 5], the model [3, 4]"]),
    "prefix": (
        {f"module.{name}": tensor for name, tensor in state().items()},
        ["missing", "begins with 'module.'"],
    ),
}


@pytest.mark.parametrize("row", WEIGHTS, ids=lambda row: row.replace(" ", "-"))
def test_weights_that_do_not_fit(refused, place, row):
    tensors, facts = WEIGHTS[row]
    save(tensors, place / "w.safetensors")
    arguments = ["export", "@nets.py:good", "-t", "onnx", "--weights", "@w.safetensors"]
    refused(arguments, SOURCE, "w.safetensors does not fit", *facts)


def test_weights_that_are_missing(refused):
    refused(["export", "@nets.py:good", "-t", "onnx", "--weights", "@gone.pt"], SOURCE, "no weights", "gone.pt")


def test_truncated_safetensors(refused, place):
    file = save(state(), place / "cut.safetensors")
    file.write_bytes(file.read_bytes()[:-10])
    refused(["export", "@nets.py:good", "-t", "onnx", "--weights", file], SOURCE, "cut.safetensors is damaged")


def test_weights_that_are_no_weights(refused):
    for name in ("weights.safetensors", "weights.pth"):
        refused(["export", "@nets.py:good", "-t", "onnx", "--weights", f"@{name}"], SOURCE, f"{name} is damaged")


class Bomb:
    """Unpickling it leaves a file behind."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (Path(self.mark),)


def test_a_pickle_is_refused_and_not_run(refused, place):
    torch.save({"state_dict": state(), "extra": Bomb(place / "ran")}, place / "bomb.pt")
    arguments = ["export", "@nets.py:good", "-t", "onnx", "--weights", "@bomb.pt"]
    refused(arguments, UNSAFE, "bomb.pt", "unpickling", "--allow-pickle", "safetensors")
    assert not (place / "ran").exists()


def test_a_pickle_is_read_when_allowed(mx, place):
    torch.save({"state_dict": state(), "extra": Bomb(place / "ran")}, place / "bomb.pt")
    arguments = ["-t", "captured", "--weights", place / "bomb.pt", "--allow-pickle", "-o", place / "out"]
    assert mx("export", f"{place / 'nets.py'}:good", *arguments).code == 0
    assert (place / "ran").exists()
    with modelexport.run(place / "out" / "good.captured") as session:
        assert (session({"input": np.ones((2, 4), np.float32)})["output"] == 4).all()


# --------------------------------------------------------------------------------------- artifacts

READERS = (["inspect"], ["verify"], ["run", "--input", "x=1"], ["benchmark"], ["export", "-t", "captured"])


def change(place, edit):
    file = place / "two.onnx" / "manifest.json"
    data = json.loads(file.read_text())
    edit(data)
    file.write_text(json.dumps(data))


def flip_bit(place, name):
    file = place / "two.onnx" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(place, name):
    file = place / "two.onnx" / name
    file.write_bytes(file.read_bytes()[:-7])


def list_file(place, path):
    change(place, lambda data: data["files"].append({"path": path, "size": 1, "sha256": "0"}))


def link_outside(place):
    (place / "two.onnx" / "link").symlink_to(place / "notes.txt")
    list_file(place, "link")


def link_entry(place):
    model = place / "two.onnx" / "model.onnx"
    model.rename(place / "elsewhere.onnx")
    model.symlink_to(place / "elsewhere.onnx")


DAMAGES = {
    "truncated model": (
        lambda p: truncate(p, "model.onnx"),
        ["model.onnx is damaged", "bytes, the manifest says"],
    ),
    "flipped bit": (lambda p: flip_bit(p, "model.onnx"), ["model.onnx is damaged", "sha256"]),
    "flipped bit in golden": (lambda p: flip_bit(p, "golden.npz"), ["golden.npz is damaged", "sha256"]),
    "deleted model": (lambda p: (p / "two.onnx/model.onnx").unlink(), ["model.onnx is missing"]),
    "deleted golden": (lambda p: (p / "two.onnx/golden.npz").unlink(), ["golden.npz is missing"]),
    "deleted manifest": (lambda p: (p / "two.onnx/manifest.json").unlink(), ["two.onnx", "manifest.json"]),
    "newer schema": (
        lambda p: change(p, lambda d: d.update(schema=99)),
        ["schema 99", "reads up to", "pip install -U"],
    ),
    "no schema": (lambda p: change(p, lambda d: d.pop("schema")), ["manifest.json is damaged", "schema"]),
    "odd schema": (lambda p: change(p, lambda d: d.update(schema="one")), ["manifest.json", "'one'"]),
    "no inputs": (lambda p: change(p, lambda d: d.pop("inputs")), ["manifest.json is damaged", "inputs"]),
    "unknown dim": (lambda p: change(p, lambda d: d["dims"].clear()), ["manifest.json is damaged", "batch"]),
    "no JSON": (lambda p: (p / "two.onnx/manifest.json").write_text("{]"), ["manifest.json is damaged"]),
    "a list": (lambda p: (p / "two.onnx/manifest.json").write_text("[]"), ["manifest.json is damaged"]),
    "empty manifest": (lambda p: (p / "two.onnx/manifest.json").write_text(""), ["manifest.json is damaged"]),
    "binary manifest": (lambda p: (p / "two.onnx/manifest.json").write_bytes(b"\xff\xfe\x00"), ["is damaged"]),
    "entry above": (lambda p: change(p, lambda d: d.update(entry="../notes.txt")), ["'../notes.txt'", "outside"]),
    "entry absolute": (
        lambda p: change(p, lambda d: d.update(entry=str(p / "notes.txt"))),
        ["notes.txt", "outside"],
    ),
    "entry empty": (lambda p: change(p, lambda d: d.update(entry="")), ["''", "outside"]),
    "entry no text": (lambda p: change(p, lambda d: d.update(entry=3)), ["manifest.json"]),
    "file above": (lambda p: list_file(p, "../notes.txt"), ["'../notes.txt'", "outside"]),
    "file far above": (lambda p: list_file(p, "a/../../notes.txt"), ["outside"]),
    "file absolute": (lambda p: list_file(p, "/etc/hostname"), ["'/etc/hostname'", "outside"]),
    "file with a drive": (lambda p: list_file(p, "C:/notes.txt"), ["'C:/notes.txt'", "outside"]),
    "file with backslashes": (lambda p: list_file(p, "..\\notes.txt"), ["notes.txt", "outside"]),
    "file by a link": (link_outside, ["'link'", "outside"]),
    "entry by a link": (link_entry, ["'model.onnx'", "outside"]),
    "missing artifact": (lambda p: shutil.rmtree(p / "two.onnx"), ["two.onnx"]),
}


@pytest.mark.parametrize("row", DAMAGES, ids=lambda row: row.replace(" ", "-"))
def test_every_reader_refuses_a_damaged_artifact(refused, place, row):
    damage, facts = DAMAGES[row]
    damage(place)
    for command in READERS:
        unknown = row in ("deleted manifest", "missing artifact") and command[0] == "export"
        code = SOURCE if unknown else ARTIFACT
        refused([command[0], "@two.onnx", *command[1:]], code, *([] if unknown else facts))


def test_an_artifact_of_a_target_that_is_not_installed(refused, place):
    change(place, lambda data: data.update(format="elsewhere"))
    for command in (["verify"], ["run", "--input", "x=1"], ["benchmark"]):
        refused([command[0], "@two.onnx", *command[1:]], TARGET, "'elsewhere'")


def test_a_lying_golden_is_found_by_verify(mx, place):
    """A golden.npz of another model, with a manifest that knows it, is a parity failure and no crash."""
    from modelexport.gate import golden
    from modelexport.store import manifest

    path = place / "two.onnx"
    data = golden.load(path / "golden.npz")
    for case in data.cases:
        case.outputs["output"] = case.outputs["output"] + 1
    golden.save(data, path / "golden.npz")
    files = {file.path: file for file in manifest.list_files(path)}
    entry = {"path": "golden.npz", "size": files["golden.npz"].size, "sha256": files["golden.npz"].sha256}
    change(place, lambda d: d.update(files=[entry if f["path"] == "golden.npz" else f for f in d["files"]]))
    result = mx("verify", path)
    assert result.code == PARITY
    assert "'output'" in result.error
    assert json.loads((path / "manifest.json").read_text())["verified"] is False


# --------------------------------------------------------------------------------------- run, benchmark


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
    "image without preprocessing": (lambda p: ["--image", "@notes.txt"], ["no image preprocessing", "--input"]),
}


@pytest.mark.parametrize("row", FEEDS, ids=lambda row: row.replace(" ", "-"))
def test_run_refuses(refused, place, row):
    prepare, facts = FEEDS[row]
    arguments = prepare(place)
    refused(["run", "@two.onnx", *arguments], INPUT, *facts)


def test_run_refuses_an_output_that_it_can_not_write(refused, place):
    arguments = ["run", "@two.onnx", *feed(place), "--output"]
    refused([*arguments, "@out.csv"], OPTION, "out.csv", ".npz or a .json")
    refused([*arguments, "@gone/out.npz"], OUTPUT, "gone/out.npz")


def test_run_refuses_options(refused, place):
    given = feed(place)
    refused(["run", "@two.onnx", *given, "-k", "thread=2"], OPTION, "'thread'", "did you mean 'threads'?")
    refused(["run", "@two.onnx", *given, "-k", "providers=warp"], OPTION, "'warp'", "cpu")
    refused(["run", "@two.onnx", *given, "-k", "threads=many"], OPTION, "threads=many", "a whole number")


def test_benchmark_refuses(refused, place):
    refused(["benchmark", "@two.onnx", "--dim", "length=3"], OPTION, "'length'", "batch, seq")
    refused(["benchmark", "@two.onnx", "--dim", "batch=many"], OPTION, "'many'", "--dim batch=8")
    refused(["benchmark", "@two.onnx", "--dim", "batch=99"], OPTION, "99", "batch=1..8")
    refused(["benchmark", "@two.onnx", "--dim", "batch"], OPTION, "'batch'")
    refused(["benchmark", "@two.onnx", "--runs", "0"], OPTION, "at least one run", "--runs 1")
    refused(["benchmark", "@two.onnx", "--runs", "few"], USAGE, "'few'", "mx benchmark --help")
    refused(["benchmark", "@two.onnx", "--threads", "0"], USAGE, "--threads", "mx benchmark --help")
    refused(["benchmark"], USAGE, "ARTIFACTS", "mx benchmark --help")
    refused(["benchmark", "@two.onnx", "--input", "@gone.npz"], INPUT, "gone.npz")
    refused(["benchmark", "@two.onnx", "--baseline", "@gone.py:net"], SOURCE, "gone.py")


def test_verify_refuses_a_sample_without_the_source(refused, place):
    refused(["verify", "@two.onnx", *feed(place)[1:]], USAGE, "mx verify --help")
    refused(["verify", "@two.onnx", "--sample", "@in.npz"], OPTION, "--source")


# --------------------------------------------------------------------------------------- the command itself


def test_an_unknown_command(refused):
    refused(["exprot"], USAGE, "'exprot'", "did you mean 'export'?")
    refused(["zzz"], USAGE, "'zzz'", "one of export")


def test_an_unknown_shell(refused):
    refused(["completion", "tcsh"], USAGE, "'tcsh'", "bash")


def test_the_error_as_json(refused, place):
    result = refused(["export", "@nets.py:goood", "-t", "onnx", "--json"], SOURCE)
    assert result.json == {
        "error": {
            "kind": "SourceError",
            "exit_code": SOURCE,
            "message": f"{place}/nets.py:goood: there is no 'goood' in it",
            "hint": "did you mean 'good'?",
        }
    }
    usage = refused(["export", "@nets.py:good", "--json"], USAGE).json["error"]
    assert (usage["kind"], usage["exit_code"]) == ("UsageError", USAGE)


def test_debug_shows_the_users_own_line(mx, place):
    result = mx("export", f"{place / 'nets.py'}:raises", "-t", "onnx", "--debug")
    assert result.code == SOURCE
    assert "Traceback" in result.err
    assert 'nn.Linear(sizes["width"], 3)' in result.err
    assert "KeyError: 'width'" in result.err
