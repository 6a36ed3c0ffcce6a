"""Wrong exports must not come out verified; each trap has a twin that must.

The converters here are real: the ONNX target, and third-party targets that a test installs (tests/toys).
"""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

PARITY, CAPTURE, REFERENCE, RUNTIME = 3, 10, 12, 13


@pytest.fixture(scope="module", autouse=True)
def toys(install_toys):
    return install_toys("tracer", "rogue", "permuter", "mutator")


@pytest.fixture
def export(mx, tmp_path):
    """`export(SOURCE, TARGET, …)` into a fresh folder; gives the result and the artifact's place."""

    def run(source, target, *more):
        result = mx("export", source, "-t", target, "-o", tmp_path, "--name", "net", *more)
        return result, tmp_path / f"net.{target}"

    return run


@pytest.fixture
def caught(read_manifest):
    """Assert that the gate failed and that nothing but NAME.failed is left; returns the error's line."""

    def check(result, place):
        assert result.code == PARITY, (result.code, result.err, result.out)
        assert not place.exists()
        failed = place.with_name(f"{place.name}.failed")
        assert read_manifest(failed)["verified"] is False
        assert read_manifest(failed)["parity"]["reason"] in result.error
        assert [path.name for path in place.parent.iterdir()] == [failed.name]
        return result.error

    return check


@pytest.fixture
def passed(read_manifest):
    """Assert that the gate passed, on every case that it should have seen; returns the manifest."""

    def check(result, place):
        assert result.code == 0, (result.code, result.err)
        manifest = read_manifest(place)
        assert manifest["verified"] is True
        assert {"middle", "seed 2", "seed 3"} <= set(manifest["parity"]["cases"])
        assert all(row["ok"] and row["used"] <= 1 for row in manifest["parity"]["outputs"])
        assert {row["name"] for row in manifest["parity"]["outputs"]} == {o["name"] for o in manifest["outputs"]}
        assert [path.name for path in place.parent.iterdir()] == [place.name]
        return manifest

    return check


@pytest.fixture
def nothing_left():
    """Assert that a command failed with this exit code, in one line, and left nothing."""

    def check(result, place, code):
        assert result.code == code, (result.code, result.err)
        assert list(place.parent.iterdir()) == []
        return result.error

    return check


# ------------------------------------------------------------------ traps and their twins

#: factory, target, and what the error must say
TRAPS = [
    ("branch", "tracer", "max abs difference"),
    ("size_one", "tracer", "max abs difference"),
    ("frozen_length", "tracer", "shape [3, 2], the source gives [3, 5]"),
    ("frozen_resize", "tracer", "shape [1, 3, 8, 8], the source gives"),
    ("swapped_axes", "permuter", "shape ["),
    ("size_one", "onnx", "in case 'low'"),
    ("square", "onnx", "in case 'equal'"),
    ("resize_bilinear", "onnx", "max abs difference"),
    ("resize_bicubic", "onnx", "max abs difference"),
    ("resize_corners", "onnx", "max abs difference"),
    ("counter", "onnx", "second call"),
]


@pytest.mark.parametrize(
    ("factory", "target", "says"), TRAPS, ids=[f"{factory}-{target}" for factory, target, _ in TRAPS]
)
def test_trap_is_caught(factory, target, says, export, caught, nets):
    assert says in caught(*export(nets("traps", factory), target))


@pytest.mark.parametrize(("factory", "target"), [trap[:2] for trap in TRAPS])
def test_twin_passes(factory, target, export, passed, nets):
    passed(*export(nets("traps", f"{factory}_twin"), target))


def test_antialiased_resize_that_is_exported_right_passes(export, passed, nets):
    passed(*export(nets("traps", "resize_to_size"), "onnx"))


def test_data_dependent_branch_is_refused_at_capture(export, nothing_left, nets):
    result, place = export(nets("traps", "branch"), "onnx")
    error = nothing_left(result, place, CAPTURE)
    with open(nets("traps", "branch").rpartition(":")[0]) as stream:
        line = next(n for n, text in enumerate(stream, 1) if "if x.sum() > 0" in text)
    assert f"traps.py:{line} (if x.sum() > 0:)" in error
    assert all(way in result.hint for way in ("torch.cond", "TorchScript script", "constant"))


def test_the_other_side_of_the_branch_through_onnx_passes_with_where(export, passed, nets):
    passed(*export(nets("traps", "branch_twin"), "onnx"))


def test_artifact_that_fails_at_a_size_names_the_case(export, nothing_left, nets):
    error = nothing_left(*export(nets("traps", "fixed_reshape"), "tracer"), RUNTIME)
    assert "in case '" in error
    assert "RuntimeError" in error


def test_state_is_kept_by_a_target_that_can(export, passed, nets):
    """The counter's second answer differs from its first, and the artifact must follow it through every case."""
    manifest = passed(*export(nets("traps", "counter"), "captured"))
    assert len(manifest["parity"]["cases"]) > 5


@pytest.mark.slow
def test_third_party_target_in_a_fresh_process(mx_process, nets, tmp_path, caught, read_manifest):
    arguments = ("-t", "tracer", "-o", tmp_path / "a", "--name", "net")
    result = mx_process("export", nets("traps", "branch"), *arguments)
    assert "hint: look at" in result.err
    caught(result, tmp_path / "a" / "net.tracer")
    result = mx_process("export", nets("traps", "branch_twin"), *arguments[:-4], "-o", tmp_path / "b", "--json")
    assert result.code == 0, result.err
    assert result.json["artifacts"][0]["verified"] is True
    step = read_manifest(tmp_path / "b" / "branch_twin.tracer")["lineage"][-1]
    assert step["tools"]["toy-tracer"] == "1.0"


# ------------------------------------------------------------------ the reference


@pytest.mark.parametrize("factory", ["dropout", "attribute_state"])
def test_source_that_answers_differently_is_no_reference(factory, export, nothing_left, nets):
    result, place = export(nets("traps", factory), "onnx")
    assert "two equal calls of the source differ" in nothing_left(result, place, REFERENCE)
    assert "dropout" in result.hint
    assert "Python attribute" in result.hint


def test_dropout_that_eval_mode_turns_off_passes(export, passed, nets):
    passed(*export(nets("traps", "dropout_twin"), "onnx"))


def test_nan_in_the_source_is_no_reference(export, nothing_left, passed, nets):
    result, place = export(nets("traps", "logarithm"), "onnx")
    assert "NaN in output 'output'" in nothing_left(result, place, REFERENCE)
    assert "=LOW..HIGH" in result.hint
    passed(*export(nets("traps", "logarithm_twin"), "onnx"))


# ------------------------------------------------------------------ every way to be wrong, one exporter


def test_rogue_without_defect_passes(export, passed, nets):
    passed(*export(nets("traps", "affine"), "rogue"))


DEFECTS = {
    "patch weights": "max abs difference",
    "patch forward": "max abs difference",
    "dtype": "output 'scores' in case 'low': dtype float64, the source gives float32",
    "renamed": "output 'scores' in case 'low': the artifact has no such output",
    "missing": "output 'doubled' in case 'low': the artifact has no such output",
    "extra": "output 'debug' in case 'low': the source has no such output",
    "reordered": "max abs difference",
    "transposed": "shape [6, 1], the source gives [1, 6]",
    "one element": "output 'doubled'",
    "nan": "1 values are NaN or infinite, the source's are finite",
    "own buffers": "max abs difference",
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_defect_is_caught(defect, export, caught, nets):
    assert DEFECTS[defect] in caught(*export(nets("traps", "affine"), "rogue", "-k", f"defect={defect}"))


@pytest.fixture
def affine(nets):
    """nets/traps.py:affine as a live module, as the Python API takes it."""
    from modelexport.contract import LoadOptions
    from modelexport.model import resolve

    return resolve.resolve(nets("traps", "affine"), LoadOptions()).module


def test_reference_is_computed_before_the_exporter_patches_the_model(affine, tmp_path, read_manifest):
    """A target that zeroes the live weights meets the outputs, and the fingerprint, of what they were."""
    import modelexport
    from modelexport.errors import ParityError
    from modelexport.model.reference import fingerprint

    model, keywords = affine, {"inputs": ["x:float32[batch=1..4,6]"], "name": "net"}
    before = fingerprint(model)
    with pytest.raises(ParityError):
        modelexport.export(model, "rogue", tmp_path, options={"defect": "patch weights"}, **keywords)
    assert not model.linear.weight.any()
    assert not (tmp_path / "net.rogue").exists()
    assert read_manifest(tmp_path / "net.rogue.failed")["lineage"][0]["source"]["fingerprint"] == before


def test_exporter_that_says_it_mutates_gets_a_copy(affine, tmp_path):
    import modelexport
    from modelexport.model.reference import fingerprint

    model = affine.eval()
    before = fingerprint(model)
    inputs = ["x:float32[batch=1..4,6]"]
    artifacts = modelexport.export(model, ["mutator", "rogue"], tmp_path, inputs=inputs)
    assert [artifact.parity.verified for artifact in artifacts] == [True, True]
    assert fingerprint(model) == before
    assert not model.training


def test_structured_inputs_come_from_the_sample(export, caught, passed, nets, tmp_path):
    """Wrong on a checkerboard only: no drawn case meets it, the user's own input does."""
    board = (np.indices((4, 6)).sum(0) % 2).astype(np.float32)
    sample = tmp_path / ".sample.npz"
    np.savez(sample, x=board)
    source, arguments = nets("traps", "affine"), ("rogue", "-k", "defect=checkerboard")
    result, place = export(source, *arguments)
    assert result.code == 0
    assert "sample 0" not in result.out
    place.rename(place.with_name("unnoticed"))
    result, place = export(source, *arguments, "--sample", sample)
    assert result.code == PARITY
    assert "in case 'sample 0" in result.error
    assert not place.exists()
    np.savez(sample, x=board + 1)
    assert export(source, *arguments, "--sample", sample)[0].code == 0


def test_what_a_runtime_prints_is_not_the_answer(export, passed, nets):
    passed(*export(nets("traps", "affine"), "rogue", "-k", "defect=prints"))


# ------------------------------------------------------------------ runtimes that fail


@pytest.mark.parametrize(
    ("defect", "says"),
    [
        ("crash", "died (SIGSEGV)"),
        ("crash at load", "died (SIGSEGV)"),
        ("exit", "died (exit code 0)"),
        ("cannot load", "version 9 of the format is not known"),
    ],
)
def test_runtime_that_dies_leaves_one_line_and_no_artifact(defect, says, export, nothing_left, nets):
    assert says in nothing_left(*export(nets("traps", "affine"), "rogue", "-k", f"defect={defect}"), RUNTIME)


def test_converter_that_raises_is_one_line_with_its_distribution(export, nothing_left, nets):
    source = nets("traps", "affine")
    error = nothing_left(*export(source, "rogue", "-k", "defect=raises"), 11)
    assert "toy-rogue failed to export: KeyError" in error
    result, place = export(source, "rogue", "-k", "defect=refuses")
    assert nothing_left(result, place, 1) == "the layer is too wide"
    assert result.hint == "make it narrower"


# ------------------------------------------------------------------ not run, not verified


def test_machine_that_cannot_run_it_gives_structure_and_verify_completes(
    export, nets, mx, read_manifest, monkeypatch
):
    result, place = export(nets("traps", "affine"), "rogue", "-k", "defect=cannot run here")
    assert result.code == 0, result.err
    assert "structure only" in result.out
    assert "a rogue accelerator is needed" in result.out
    assert read_manifest(place)["verified"] == "structure"
    assert "a rogue accelerator is needed" in read_manifest(place)["parity"]["reason"]
    result = mx("verify", place)
    assert read_manifest(place)["verified"] == "structure"
    monkeypatch.setenv("ROGUE_HARDWARE", "1")
    result = mx("verify", place)
    assert result.code == 0, result.err
    assert read_manifest(place)["verified"] is True
    assert read_manifest(place)["parity"]["reason"] == ""


def test_no_verify_says_so_and_verify_completes(export, nets, mx, read_manifest):
    result, place = export(nets("traps", "affine"), "rogue", "--no-verify")
    assert result.code == 0
    assert "not verified" in result.out
    assert read_manifest(place)["verified"] is False
    assert "--no-verify" in read_manifest(place)["parity"]["reason"]
    assert mx("verify", place).code == 0
    assert read_manifest(place)["verified"] is True


def test_no_verify_of_a_wrong_artifact_stays_unverified(export, nets, mx, read_manifest):
    """What `verify` has is the golden data: enough to find a defect that shows on it."""
    _, place = export(nets("traps", "affine"), "rogue", "--no-verify", "-k", "defect=one element")
    result = mx("verify", place)
    assert result.code == PARITY
    assert read_manifest(place)["verified"] is False
    assert "output 'doubled'" in read_manifest(place)["parity"]["reason"]
    assert place.is_dir()


def test_verify_against_the_source_sees_other_weights(export, passed, nets, mx, read_manifest):
    """The twin of the artifact's own source passes; a source with other weights does not."""
    _, place = export(nets("traps", "counter_twin"), "onnx")
    assert mx("verify", place, "--source", nets("traps", "counter_twin")).code == 0
    assert read_manifest(place)["verified"] is True
    result = mx("verify", place, "--source", nets("traps", "size_one_twin"))
    assert result.code == PARITY
    assert read_manifest(place)["verified"] is False


# ------------------------------------------------------------------ damage


@pytest.fixture(scope="module")
def good(mx, nets, tmp_path_factory):
    """A verified ONNX artifact to damage copies of."""
    folder = tmp_path_factory.mktemp("good")
    assert mx("export", nets("traps", "counter_twin"), "-t", "onnx", "-o", folder).code == 0
    return folder / "counter_twin.onnx"


@pytest.mark.parametrize("file", ["model.onnx", "golden.npz"])
@pytest.mark.parametrize("verb", ["verify", "run", "inspect"])
def test_one_flipped_bit_is_named(file, verb, good, mx, tmp_path):
    import shutil

    copy = shutil.copytree(good, tmp_path / "copy")
    data = bytearray((copy / file).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / file).write_bytes(data)
    result = mx(verb, copy, *(("--input", "x=1") if verb == "run" else ()))
    assert result.code == 8
    assert str(copy / file) in result.error
    assert "sha256" in result.error


def test_changed_weight_with_a_forged_checksum_fails_the_gate(good, mx, tmp_path, read_manifest):
    """The checksum guards against accidents only; the gate itself runs the changed file."""
    import json
    import shutil

    import onnx
    from onnx import numpy_helper

    copy = shutil.copytree(good, tmp_path / "copy")
    model = onnx.load(copy / "model.onnx")
    (weight,) = [t for t in model.graph.initializer if numpy_helper.to_array(t).shape == (4,)]
    changed = numpy_helper.to_array(weight).copy()
    changed[2] += 0.001
    weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
    onnx.save(model, copy / "model.onnx")
    manifest = read_manifest(copy)
    for entry in manifest["files"]:
        if entry["path"] == "model.onnx":
            data = (copy / "model.onnx").read_bytes()
            entry.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    (copy / "manifest.json").write_text(json.dumps(manifest))
    result = mx("verify", copy)
    assert result.code == PARITY
    assert "max abs difference 0.001" in result.error
    assert read_manifest(copy)["verified"] is False


# ------------------------------------------------------------------ the user's model, and the child process


def _snapshot(model):
    return {
        "state": {name: (t.dtype, t.numpy().tobytes()) for name, t in model.state_dict().items()},
        "tensors": {name: id(t) for name, t in [*model.named_parameters(), *model.named_buffers()]},
        "training": {name: module.training for name, module in model.named_modules()},
        "hooks": {
            name: (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for name, module in model.named_modules()
        },
        "requires_grad": {name: (p.requires_grad, p.grad is None) for name, p in model.named_parameters()},
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
    }


def test_the_users_model_is_untouched(tmp_path):
    """A live module in train mode, with batch norm, dropout, a frozen layer, a hook and a buffer that counts."""
    import modelexport
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
            self.head = nn.Linear(4, 5)
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls += 1
            return self.head(self.body(x).mean((2, 3)))

    torch.manual_seed(0)
    model = Net()
    model.train()
    model.body[1].eval()
    model.head.weight.requires_grad_(False)
    model.body[0].weight.grad = torch.ones_like(model.body[0].weight)
    seen = []
    model.head.register_forward_hook(lambda *_: seen.append(1))
    before = _snapshot(model)
    random_state = torch.get_rng_state()
    artifacts = modelexport.export(model, ["onnx", "captured"], tmp_path, inputs=["x:float32[batch=1..4,3,8,8]"])
    assert [artifact.parity.verified for artifact in artifacts] == [True, True]
    assert seen, "the hook is the user's: the reference must have run through it"
    after = _snapshot(model)
    for part in before:
        assert after[part] == before[part], part
    assert torch.equal(torch.get_rng_state(), random_state)


def test_two_targets_capture_once(tmp_path, nets, monkeypatch):
    import modelexport
    import torch

    calls, real = [], torch.export.export
    monkeypatch.setattr(torch.export, "export", lambda *a, **k: calls.append(1) or real(*a, **k))
    stages = []
    artifacts = modelexport.export(
        nets("traps", "counter_twin"),
        ["onnx", "captured"],
        tmp_path,
        progress=stages.append,
    )
    assert len(calls) == 1
    assert [artifact.parity.verified for artifact in artifacts] == [True, True]
    assert [artifact.format for artifact in artifacts] == ["onnx", "captured"]
    assert [str(event) for event in stages].count("capture with torch.export") == 1


def test_gate_runs_where_torch_is_not_importable(good, tmp_path):
    """The gate's child needs the artifact and its runtime only."""
    (tmp_path / "torch.py").write_text("raise ImportError('torch is not here')\n")
    (tmp_path / "onnx.py").write_text("raise ImportError('onnx is not here')\n")
    script = "import sys; from modelexport import verify; print(verify(sys.argv[1]).parity.verified)"
    done = subprocess.run(
        [sys.executable, "-c", script, good],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "True", done.stderr
