"""What is kept of freeze and optimize_for_inference, and what is said of each."""

import contextlib
import io
import json

import modelexport as mx
import numpy as np
import pytest
from modelexport import cli


def run_cli(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli._run([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("factory", ["lstm", "convolutions"])
def test_optimize_keeps_only_what_is_measured_to_be_no_slower(export, factory, agree):
    artifact = export(factory)
    optimized = mx.optimize(artifact.path, verify=factory == "convolutions")
    details = optimized.details
    assert set(details["ratios"]) == {"freeze", "optimize_for_inference"}
    worst = {method: max(ratios.values()) for method, ratios in details["ratios"].items()}
    assert all(ratio > 0 for ratio in worst.values())
    if min(worst.values()) <= 1:
        assert details["kept"] == min(worst, key=worst.get)
    else:
        assert details["kept"].startswith("nothing")
        assert optimized.entry_path.read_bytes() == artifact.entry_path.read_bytes()
        assert "unchanged" in optimized.notes[-1]
    for method, ratio in worst.items():
        (note,) = [note for note in optimized.notes if note.startswith(f"{method} is ")]
        assert f"{ratio:.2f} ×" in note
        assert ("is kept" in note) == (details["kept"] == method)
    assert details["at_load"] == (
        ["optimize_for_inference"] if details["kept"] == "optimize_for_inference" else []
    )
    assert details["mode"] == artifact.details["mode"]
    assert sorted(path.name for path in optimized.path.glob("*.pt")) == ["model.pt"]
    inputs = {
        spec.name: np.ones([getattr(s, "min", s) for s in spec.shape], np.float32) for spec in artifact.inputs
    }
    with mx.run(artifact.path) as one, mx.run(optimized.path) as other:
        for _ in range(4):
            agree(other(inputs), one(inputs))


def test_what_can_be_computed_but_not_saved_is_computed_as_the_session_opens(export, nets, eager, agree):
    """optimize_for_inference of a convolution saves a file that does not load, so no session may need it."""
    artifact = export("convolutions")
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    manifest["details"]["at_load"] = ["optimize_for_inference"]
    (artifact.path / "manifest.json").write_text(json.dumps(manifest))
    x = np.ones((2, 3, 16, 16), np.float32)
    with mx.run(artifact.path) as session:
        agree(session({"x": x}), eager(nets.source("convolutions"), x=x))
    again = mx.optimize(artifact.path, options={"method": "none"}, verify=False)
    assert again.details["at_load"] == ["optimize_for_inference"]
    assert again.notes == ("the model is written unchanged",)


def test_optimizing_what_is_frozen_already(export):
    frozen = mx.optimize(export("lstm").path, options={"method": "freeze"}, verify=False)
    again = mx.optimize(frozen.path, options={"method": "freeze"}, verify=False)
    assert not any("error" in note.lower() for note in again.notes)


def test_optimize_on_the_command_line(export):
    artifact = export("classifier")
    code, out, err = run_cli("optimize", artifact.path, "-k", "help")
    assert (code, err) == (0, "")
    assert "auto|freeze|optimize_for_inference|none" in out
    code, out, err = run_cli("optimize", artifact.path, "--no-verify", "-k", "method=freeze")
    assert (code, err) == (0, "")
    assert "note: freeze is " in out
    code, out, err = run_cli("inspect", artifact.path.with_name("classifier.optimized.torchscript"))
    assert "ratios: freeze" in out
    assert "mode: trace" in out
