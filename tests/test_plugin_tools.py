"""`mx plugin new`, `mx plugin check`, `mx --plugin` and MX_TRACE: from nothing to a checked target."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: fills in the two hooks of a scaffold: the program is saved, and run again
EXPORT = """
    import torch

    from modelexport import Build

    torch.export.save(source.program, out / "model.pt2")
    return Build("model.pt2", tools=("torch",))
"""
RUN = """
    import torch

    from modelexport.toolkit import module_reference
    from modelexport import Session

    program = torch.export.load(artifact.entry_path)
    names = [spec.name for spec in artifact.outputs]
    call = module_reference(program.module(), artifact.inputs, names, program)
    return Session(lambda inputs: call(dict(inputs)), artifact.inputs, artifact.outputs)
"""


def mx(*arguments, path=None, cwd=None, **environment):
    """Run the command in a process of its own."""
    variables = {**os.environ, **environment, "COLUMNS": "200"}
    if path is not None:
        variables["PYTHONPATH"] = str(path)
    command = [sys.executable, "-c", "from modelexport.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=variables, cwd=cwd, timeout=600)


def fill_in(folder):
    """Write what the scaffold leaves to its author."""
    file = folder / "src" / "modelexport_toy" / "__init__.py"
    lines = file.read_text().splitlines()
    done = []
    for line in lines:
        if line.startswith("    raise ConversionError"):
            done.append(EXPORT)
        elif line.startswith("    raise RuntimeFailure"):
            done.append(RUN)
        else:
            done.append(line)
    file.write_text("\n".join(done) + "\n")
    return file


def install(folder, place):
    """Build the distribution and install it, by itself, into an empty folder."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "--target",
            place,
            folder,
        ],
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def scaffold(tmp_path_factory):
    out = tmp_path_factory.mktemp("new")
    done = mx("plugin", "new", "toy", "-o", out)
    assert done.returncode == 0, done.stderr
    return out / "modelexport-toy"


@pytest.mark.slow
def test_from_scaffold_to_checked_target(scaffold, tmp_path):
    install(scaffold, tmp_path / "before")
    listed = mx("targets", path=tmp_path / "before")
    assert "toy" in listed.stdout
    assert "ready" in next(line for line in listed.stdout.splitlines() if line.startswith("toy"))

    unfinished = mx("plugin", "check", "toy", "--json", path=tmp_path / "before")
    outcomes = json.loads(unfinished.stdout)["outcomes"]
    assert unfinished.returncode == 1
    assert "mx_export of toy is not written yet" in outcomes["computes_the_same[conv_bn]"]
    assert outcomes["entry_point_has_the_targets_name"] == "ok"

    fill_in(scaffold)
    install(scaffold, tmp_path / "after")
    contract = scaffold / "tests" / "test_contract.py"
    finished = mx("plugin", "check", "toy", "--tests", contract, "--json", path=tmp_path / "after")
    result = json.loads(finished.stdout)
    failed = {name: outcome for name, outcome in result["outcomes"].items() if outcome.startswith("failed")}
    assert failed == {}
    assert finished.returncode == 0
    assert result["outcomes"]["computes_the_same[lstm]"] == "ok"


@pytest.mark.slow
def test_a_target_in_one_file(scaffold, tmp_path):
    """`mx --plugin FILE.py` exports, and the gate's process finds the file too."""
    file = tmp_path / "toy.py"
    if "raise ConversionError" in (scaffold / "src/modelexport_toy/__init__.py").read_text():
        fill_in(scaffold)
    file.write_text((scaffold / "src/modelexport_toy/__init__.py").read_text())
    nets = tmp_path / "nets.py"
    nets.write_text("import torch\n\ndef net():\n    return torch.nn.Linear(4, 2)\n")
    declaration = "input:float32[batch,4]"
    done = mx("--plugin", file, "export", f"{nets}:net", "-t", "toy", "--input", declaration, "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "net.toy" / "manifest.json").read_text())
    assert manifest["verified"] is True
    assert mx("run", tmp_path / "net.toy", "--input", "input=1").returncode == 5  # without the file it is unknown


def test_a_quirk_that_is_out_of_date_fails(tmp_path):
    contract = tmp_path / "test_contract.py"
    contract.write_text(
        "from modelexport.testing import Quirks, TargetContract\n\n"
        "class TestIt(TargetContract):\n"
        "    target = 'captured'\n"
        "    quirks = Quirks(tests={'options_say_what_they_are_for': 'no reason any more'})\n"
    )
    done = mx("plugin", "check", "captured", "--tests", contract, "--json")
    outcomes = json.loads(done.stdout)["outcomes"]
    assert done.returncode == 1
    assert outcomes["options_say_what_they_are_for"].startswith("failed: it passes")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("plugin", "new", "Not A Name"), 6, "lower-case"),
        (("plugin", "check", "nonesuch"), 5, "unknown target"),
        (("plugin", "check", "captured", "--tests", "nowhere.py"), 9, "nowhere.py"),
        (("--plugin", "nowhere.py", "targets"), 5, "nowhere.py"),
    ],
)
def test_bad_input(arguments, code, said, tmp_path):
    done = mx(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_scaffold_is_not_written_over(scaffold):
    before = {path: path.read_bytes() for path in scaffold.rglob("*") if path.is_file()}
    done = mx("plugin", "new", "toy", "-o", scaffold.parent)
    assert done.returncode == 7
    assert {path: path.read_bytes() for path in scaffold.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("consumes", ["module", "captured", "other"])
def test_every_scaffold_compiles(consumes, tmp_path):
    assert mx("plugin", "new", "two-words", "--consumes", consumes, "-o", tmp_path).returncode == 0
    for file in (tmp_path / "modelexport-two-words").rglob("*.py"):
        compile(file.read_text(), str(file), "exec")
    assert (
        f'consumes=("{consumes}",)'
        in (tmp_path / "modelexport-two-words/src/modelexport_two_words/__init__.py").read_text()
    )


def test_trace_says_what_each_hook_took():
    done = mx("targets", MX_TRACE="1")
    assert "mx trace: mx_target of captured:" in done.stderr
    assert "mx trace" not in mx("targets").stderr


def test_a_plugin_for_a_newer_core_is_listed_as_broken(tmp_path):
    info = tmp_path / "late-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: late\nVersion: 1.0\nRequires-Dist: modelexport>=99.0,<100\n"
    )
    (info / "entry_points.txt").write_text("[mx.targets]\nlate = late_target\n")
    Path(tmp_path / "late_target.py").write_text("raise SystemExit('never imported')\n")
    row = next(line for line in mx("targets", path=tmp_path).stdout.splitlines() if line.startswith("late"))
    assert "broken" in row
    assert "modelexport 99.0" in row
    assert "pip install -U modelexport" in row
