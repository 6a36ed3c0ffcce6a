"""`mx verify`: what was not verified is, and what became wrong is found."""

import hashlib
import json

import numpy as np
import pytest
from modelexport.gate import golden
from modelexport.store import manifest

pytestmark = pytest.mark.usefixtures("toys")

PARITY = 3


@pytest.fixture
def export(mx, tmp_path, nets):
    """Export a net of nets/traps.py; gives the result and the artifact's place."""

    def run(factory, target, *more):
        result = mx("export", nets("traps", factory), "-t", target, "-o", tmp_path, "--name", "net", *more)
        return result, tmp_path / f"net.{target}"

    return run


def changed(path, name, read_manifest):
    """The manifest takes a changed file for the one that was written."""
    data = read_manifest(path)
    content = (path / name).read_bytes()
    for entry in data["files"]:
        if entry["path"] == name:
            entry.update(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    (path / "manifest.json").write_text(json.dumps(data))


def test_machine_that_cannot_run_it_gives_structure_and_verify_completes(export, mx, read_manifest, monkeypatch):
    result, place = export("affine", "rogue", "-k", "defect=cannot run here")
    assert result.code == 0, result.err
    assert "structure only" in result.out
    assert "a rogue accelerator is needed" in result.out
    assert read_manifest(place)["verified"] == "structure"
    assert "a rogue accelerator is needed" in read_manifest(place)["parity"]["reason"]
    mx("verify", place)
    assert read_manifest(place)["verified"] == "structure"
    monkeypatch.setenv("ROGUE_HARDWARE", "1")
    result = mx("verify", place)
    assert result.code == 0, result.err
    assert read_manifest(place)["verified"] is True
    assert read_manifest(place)["parity"]["reason"] == ""
    monkeypatch.delenv("ROGUE_HARDWARE")
    assert mx("verify", place).code == 0
    assert read_manifest(place)["verified"] is True, "another machine could run it, and found it right"


def test_no_verify_says_so_and_verify_completes(export, mx, read_manifest):
    result, place = export("affine", "rogue", "--no-verify")
    assert result.code == 0
    assert "not verified" in result.out
    assert read_manifest(place)["verified"] is False
    assert "--no-verify" in read_manifest(place)["parity"]["reason"]
    assert mx("verify", place).code == 0
    assert read_manifest(place)["verified"] is True


def test_no_verify_of_a_wrong_artifact_stays_unverified(export, mx, read_manifest):
    """What `verify` has is the golden data: enough to find a defect that shows on it."""
    _, place = export("affine", "rogue", "--no-verify", "-k", "defect=one element")
    result = mx("verify", place)
    assert result.code == PARITY
    assert read_manifest(place)["verified"] is False
    assert "output 'doubled'" in read_manifest(place)["parity"]["reason"]
    assert place.is_dir()


def test_verify_against_the_source_sees_other_weights(export, nets, mx, read_manifest):
    """The artifact's own source passes; a source that computes something else does not."""
    _, place = export("counter_twin", "tape")
    assert mx("verify", place, "--source", nets("traps", "counter_twin")).code == 0
    assert read_manifest(place)["verified"] is True
    result = mx("verify", place, "--source", nets("traps", "size_one_twin"))
    assert result.code == PARITY
    assert read_manifest(place)["verified"] is False


def test_a_lying_golden_is_found(mx, copy, read_manifest):
    """A golden.npz of another model, with a manifest that knows it, is a parity failure and no crash."""
    data = golden.load(copy / "golden.npz")
    for case in data.cases:
        case.outputs["output"] = case.outputs["output"] + 1
    golden.save(data, copy / "golden.npz")
    changed(copy, "golden.npz", read_manifest)
    result = mx("verify", copy)
    assert result.code == PARITY
    assert "'output'" in result.error
    assert read_manifest(copy)["verified"] is False


def test_a_changed_weight_with_a_forged_checksum_is_found(mx, copy, read_manifest):
    """The checksum guards against accidents only; the gate itself runs the changed file."""
    with np.load(copy / "model.tape") as data:
        arrays = dict(data)
    arrays["p_line_bias"][2] += 0.001
    with (copy / "model.tape").open("wb") as stream:
        np.savez(stream, **arrays)
    changed(copy, "model.tape", read_manifest)
    result = mx("verify", copy)
    assert result.code == PARITY
    assert "max abs difference 0.001" in result.error
    assert read_manifest(copy)["verified"] is False


def test_what_was_found_is_in_the_manifest_and_nothing_else_changed(mx, copy):
    before = manifest.read(copy)
    assert mx("verify", copy, "--tolerance", "atol=1").code == 0
    after = manifest.read(copy)
    assert after.parity.outputs[0].budget.atol == 1
    assert (after.files, after.lineage, after.inputs) == (before.files, before.lineage, before.inputs)
