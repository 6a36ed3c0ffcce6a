"""A machine that only runs models: core, the ONNX plugin and ONNX Runtime, installed as wheels, and no PyTorch."""

import json
import os
import subprocess
import venv
from pathlib import Path

import modelexport
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Run a command in an environment without PyTorch; skipped (or failed, under MX_REQUIRE) without an index."""
    home = tmp_path_factory.mktemp("bare")
    venv.create(home / "env", with_pip=True)
    scripts = home / "env" / ("Scripts" if os.name == "nt" else "bin")
    kept = ("PATH", "HOME", "TMPDIR", "LANG", "SYSTEMROOT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    environment = {name: value for name, value in os.environ.items() if name in kept or name.startswith("PIP_")}
    environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PATH": f"{scripts}{os.pathsep}{environment['PATH']}"}

    def run(*arguments):
        command = [str(scripts / arguments[0]), *map(str, arguments[1:])]
        return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=600)

    done = run("python", "-m", "pip", "install", "-q", ROOT / "core", ROOT / "plugins" / "onnx")
    if done.returncode:
        reason = f"pip can't install here: {done.stderr.strip().splitlines()[-1]}"
        if os.environ.get("MX_REQUIRE"):
            pytest.fail(reason)
        pytest.skip(reason)
    return run


def test_the_environment_is_what_it_claims(bare):
    assert bare("python", "-m", "pip", "check").returncode == 0
    packages = json.loads(bare("python", "-m", "pip", "list", "--format", "json").stdout)
    names = {package["name"].lower() for package in packages}
    assert {"modelexport", "modelexport-onnx", "onnxruntime", "numpy"} <= names
    assert not names & {"torch", "onnx", "onnxscript", "transformers", "safetensors"}
    where = bare("python", "-c", "import modelexport; print(modelexport.__file__)").stdout
    assert "site-packages" in where
    assert str(ROOT) not in where


def test_targets_says_what_is_missing(bare):
    done = bare("mx", "targets", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = (row for row in json.loads(done.stdout)["targets"] if row["name"] == "onnx")
    assert row["status"] == "incomplete"
    assert row["verbs"] == "run"
    assert "pip install 'modelexport-onnx[export]'" in row["note"]


def test_doctor_finds_nothing_broken(bare):
    done = bare("mx", "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "torch" in done.stdout  # as what `captured` lacks
    assert "broken" not in done.stdout


def test_run_gives_the_outputs_of_pytorch(bare, artifact, tmp_path):
    import torch

    generator = np.random.default_rng(7)
    x, ids = generator.standard_normal((5, 4), np.float32), generator.integers(0, 10, (5, 3))
    np.savez(tmp_path / "in.npz", x=x, ids=ids)
    done = bare("mx", "run", artifact, "--input", tmp_path / "in.npz", "--output", tmp_path / "out.npz")
    assert done.returncode == 0, done.stderr
    scope = {}
    exec((artifact.parent / "two.py").read_text(), scope)
    with torch.no_grad():
        want = scope["two"]().module.eval()(torch.from_numpy(x), torch.from_numpy(ids)).numpy()
    assert np.abs(np.load(tmp_path / "out.npz")["output"] - want).max() <= 1e-6


def test_verify_runs_the_whole_gate(bare, artifact):
    before = modelexport.load(artifact).parity
    done = bare("mx", "verify", artifact, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["verified"] is True
    assert found["parity"]["cases"] == list(before.cases)
    assert found["parity"]["outputs"][0]["used"] <= 1


def test_verify_with_a_source_says_that_it_needs_torch(bare, artifact):
    done = bare("mx", "verify", artifact, "--source", artifact.parent / "two.py:two")
    assert done.returncode == 4, done.stderr
    assert done.stderr.startswith("error: ")
    assert "torch" in done.stderr
    assert "Traceback" not in done.stderr


def test_inspect_and_benchmark(bare, artifact):
    assert bare("mx", "inspect", artifact).returncode == 0
    done = bare("mx", "benchmark", artifact, "--runs", "5", "--seconds", "0.1", "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    (figures,) = json.loads(done.stdout)["figures"]
    assert figures["runs"] >= 5
    assert 0 < figures["p50_ms"] < 1000
    assert 10e6 < figures["peak_rss"] < 300e6  # what numpy and ONNX Runtime take: far from PyTorch


@pytest.mark.parametrize("target", ["onnx", "captured"])
def test_export_names_the_line_that_installs_what_it_needs(bare, artifact, target, tmp_path):
    out = tmp_path / "out"
    done = bare("mx", "export", f"{artifact.parent / 'two.py'}:two", "-t", target, "-o", out)
    assert done.returncode == 5, done.stderr
    error, hint = done.stderr.splitlines()
    assert error.startswith(f"error: to export, target '{target}' needs torch")
    assert hint == f"hint: pip install 'modelexport{'-onnx' if target == 'onnx' else ''}[export]'"
    assert not out.exists()


def test_the_wheels_hold_code_and_nothing_else(bare):
    """No tests, no caches; the type marker and every module of the source tree."""
    script = (
        "import importlib.metadata as m; print(*m.files('modelexport'), *m.files('modelexport-onnx'), sep='\\n')"
    )
    files = bare("python", "-c", script).stdout.split()
    wheel = {name for name in files if name.startswith("modelexport") and ".dist-info/" not in name}
    wheel = {name for name in wheel if "__pycache__" not in name}
    trees = [ROOT / "core" / "src", ROOT / "plugins" / "onnx" / "src"]
    wanted = {p.relative_to(tree).as_posix() for tree in trees for p in tree.rglob("*") if p.is_file()}
    assert wheel == {name for name in wanted if "__pycache__" not in name}
