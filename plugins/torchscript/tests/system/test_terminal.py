"""Nothing is written to the terminal, and the program in the README runs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import modelexport as mx
import numpy as np
import pytest

TESTS = Path(__file__).parents[1]


def test_nothing_is_written_to_stderr(tmp_path):
    """Warnings are on, as in a test run or a notebook of the user's."""
    code = "import sys; from modelexport import cli; sys.exit(cli._run(sys.argv[1:]))"
    command = [sys.executable, "-W", "always::DeprecationWarning", "-W", "always::UserWarning", "-c", code]
    for verb in (
        ["export", f"{TESTS / 'nets.py'}:branch", "-t", "torchscript", "-o", str(tmp_path)],
        ["optimize", str(tmp_path / "branch.torchscript"), "--no-verify"],
        ["run", str(tmp_path / "branch.torchscript"), "--input", "x=0.5"],
    ):
        done = subprocess.run([*command, *verb], capture_output=True, text=True, timeout=300)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_readme_s_c_plus_plus_runs_an_artifact(export, tmp_path, torch):
    if shutil.which("g++") is None:
        pytest.skip("there is no g++")
    readme = (TESTS.parent / "README.md").read_text(encoding="utf-8")
    (tmp_path / "run.cpp").write_text(re.search(r"```cpp\n(.*?)```", readme, re.DOTALL)[1])
    build = re.search(r"g\+\+ (?:.*\\\n)*.*", readme)[0].replace("$torch", torch.__path__[0])
    subprocess.run(build, shell=True, cwd=tmp_path, check=True, timeout=500)
    artifact = export("classifier")
    done = subprocess.run([tmp_path / "run", artifact.entry_path], capture_output=True, text=True, check=True)
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 6)
    with mx.run(artifact.path) as session:
        want = session({"x": x})["output"]
    np.testing.assert_allclose(np.array(done.stdout.split(), np.float32).reshape(2, 3), want, atol=1e-6)
