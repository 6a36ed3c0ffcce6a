"""Checkpoints are run without TensorRT-LLM, and refused where they are damaged."""

import contextlib
import io
import json
import shutil
from dataclasses import replace

import modelexport as mx
import numpy as np
import pytest
from modelexport import cli
from modelexport.errors import ArtifactError, CannotRunHere, RuntimeFailure
from modelexport.gate import verify
from modelexport.plugins import calls
from modelexport_tensorrt_llm import session as running


def command(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli._run([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def test_run_says_what_is_missing_and_computes_all_the_same(export):
    if running.lacking() == "":
        pytest.skip("this machine has TensorRT-LLM")
    path = export("fp8").path
    code, out, err = command("run", path, "--text", "the cat sat on")
    assert code == 0
    assert "TensorRT-LLM can't run here (tensorrt_llm is not installed): computed in PyTorch" in err
    assert "0: next '" in out
    assert command("run", path, "--text", "the cat", "-k", "runtime=dequantized")[2] == ""
    with pytest.raises(CannotRunHere, match="can't run here: tensorrt_llm is not installed") as caught:
        mx.run(path, {"runtime": "tensorrt-llm"})
    assert "runtime=dequantized" in caught.value.hint


def test_padding_and_company_change_nothing(export):
    with mx.run(export("w8a8-smoothquant").path) as session:
        ids = np.array([[3, 4, 5, 6, 7]])
        alone = session({"input_ids": ids, "attention_mask": np.ones_like(ids)})["logits"]
        wide = np.array([[3, 4, 5, 6, 7, 9, 9], [8, 9, 10, 11, 12, 13, 14]])
        mask = np.array([[1, 1, 1, 1, 1, 0, 0], [1] * 7])
        both = session({"input_ids": wide, "attention_mask": mask})["logits"]
    np.testing.assert_allclose(both[0, :5], alone[0], atol=1e-5)
    assert not both[0, 5:].any()


def copied(artifact, place):
    shutil.copytree(artifact.path, place)
    return replace(artifact, path=place)


@pytest.fixture
def rewrite(tiny):
    """Change the tensors of an artifact on disk."""
    from safetensors.torch import save_file

    def run(artifact, change):
        tensors = tiny.stored(artifact.entry_path)
        change(tensors)
        save_file(tensors, artifact.entry_path / "model.safetensors")

    return run


def open_(artifact):
    return calls.open_session(artifact, {"runtime": "dequantized"})


def test_one_wrong_scale_fails_the_gate(export, tmp_path, rewrite):
    bad = copied(export("fp8"), tmp_path / "bad")
    rewrite(bad, lambda tensors: tensors["model.layers.0.mlp.up_proj.weight_scale"].mul_(-1))
    found = verify.verify_artifact(bad, options={"runtime": "dequantized"})
    assert found.verified is False
    assert "output 'logits'" in found.reason


def test_damaged_checkpoints_are_refused(export, tmp_path, torch, rewrite):
    whole = export("w8a8-smoothquant")
    bad = copied(whole, tmp_path / "cut")
    weights = bad.entry_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        mx.run(bad.path)  # the manifest knows better
    with pytest.raises(RuntimeFailure, match=r"model\.safetensors is damaged"):
        open_(bad)
    for change, message in [
        (lambda t: t.pop("model.norm.weight"), "missing keys model.norm.weight"),
        (
            lambda t: t.pop("model.layers.1.mlp.up_proj.input_scale"),
            "up_proj is no W8A8.* KeyError: 'input_scale'",
        ),
        (lambda t: t.update(stranger=torch.zeros(1)), "unexpected keys stranger"),
    ]:
        bad = copied(whole, tmp_path / f"copy{len(list(tmp_path.iterdir()))}")
        rewrite(bad, change)
        with pytest.raises(RuntimeFailure, match=message):
            open_(bad)
    config = bad.entry_path / "hf_quant_config.json"
    config.write_text(json.dumps({"quantization": {"quant_algo": "W2A2"}}))
    with pytest.raises(RuntimeFailure, match="quantized as W2A2, which is not known here"):
        open_(bad)
    config.write_text("{")
    with pytest.raises(RuntimeFailure, match=r"hf_quant_config\.json is missing or damaged"):
        open_(bad)
    weights = bad.entry_path / "model.safetensors"
    weights.unlink()
    config.unlink()
    with pytest.raises(RuntimeFailure, match="holds no safetensors"):
        open_(bad)
