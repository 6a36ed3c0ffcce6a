"""From nothing to a checked target: what `mx plugin new` writes, filled in, installed and checked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOYS = Path(__file__).parents[1] / "toys"

#: what a scaffold leaves to its author: the program is saved, and run again
EXPORT = """
        import torch

        torch.export.save(source.program, out / FILE)
"""
RUN = """
    import torch

    from modelexport.toolkit import module_reference

    program = torch.export.load(artifact.entry_path)
    names = [spec.name for spec in artifact.outputs]
    answer = module_reference(program.module(), artifact.inputs, names, program)

    def call(inputs: Mapping[str, Array]) -> Arrays:
        return answer(dict(inputs))

    return Session(call, artifact.inputs, artifact.outputs)
"""


@pytest.fixture
def mx(mx_process):
    """Run the command where the folder `path` is importable."""

    def run(*arguments, path=None, **environment):
        variables = {**os.environ, **environment, "COLUMNS": "200"}
        if path is not None:
            variables["PYTHONPATH"] = str(path)
        return mx_process(*arguments, env=variables)

    return run


def fill_in(folder):
    """Write what the scaffold leaves to its author."""
    package = folder / "src" / "modelexport_toy"
    export = (package / "export.py").read_text()
    place = "        pass  # convert it here, and write out / FILE\n"
    assert place in export
    (package / "export.py").write_text(export.replace(place, EXPORT))
    session = (package / "session.py").read_text()
    before, found, _ = session.partition("\n    def call(")
    assert found
    (package / "session.py").write_text(before + RUN)


def install(folder, place):
    """Build the distribution and install it, by itself, into an empty folder."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        place,
    ]
    subprocess.run([*command, folder], check=True, capture_output=True)


def test_from_scaffold_to_checked_target(mx, tmp_path):
    assert mx("plugin", "new", "toy", "-o", tmp_path).code == 0
    scaffold = tmp_path / "modelexport-toy"
    install(scaffold, tmp_path / "before")
    listed = mx("targets", path=tmp_path / "before")
    assert "ready" in next(line for line in listed.out.splitlines() if line.startswith("toy"))

    unfinished = mx("plugin", "check", "toy", "--json", path=tmp_path / "before")
    assert unfinished.code == 1
    outcomes = unfinished.json["outcomes"]
    assert "the export to toy is not written yet" in outcomes["computes_the_same[conv_bn]"]
    assert outcomes["entry_point_has_the_targets_name"] == "ok"

    fill_in(scaffold)
    install(scaffold, tmp_path / "after")
    contract = scaffold / "tests" / "contract" / "test_contract.py"
    finished = mx("plugin", "check", "toy", "--tests", contract, "--json", path=tmp_path / "after")
    outcomes = finished.json["outcomes"]
    failed = {name: outcome for name, outcome in outcomes.items() if outcome.startswith("failed")}
    assert failed == {}
    assert finished.code == 0
    assert outcomes["computes_the_same[lstm]"] == "ok"


def test_a_target_in_one_file(mx, nets, tmp_path):
    """`mx --plugin FILE.py` exports, and the gate's process finds the file too."""
    source = nets("sources", "as_source")
    done = mx("--plugin", TOYS / "tape.py", "export", source, "-t", "tape", "-o", tmp_path)
    assert done.code == 0, done.err
    made = tmp_path / "scorer.tape"
    assert json.loads((made / "manifest.json").read_text())["verified"] is True
    assert mx("run", made, "--input", "input=1").code == 5, "without the file it is unknown"
    missing = mx("--plugin", "nowhere.py", "targets")
    assert (missing.code, "nowhere.py" in missing.error) == (5, True)


def test_trace_says_what_each_hook_took(mx):
    assert "mx trace: mx_target of captured:" in mx("targets", MX_TRACE="1").err
    assert "mx trace" not in mx("targets").err
