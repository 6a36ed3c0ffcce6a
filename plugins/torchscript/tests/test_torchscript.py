"""The TorchScript target: which way is taken and why, what is written, and what it computes."""

import contextlib
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import modelexport as mx
import numpy as np
import pytest
from modelexport import cli
from modelexport.contract import LoadOptions
from modelexport.errors import CannotRunHere, ConversionError, InputError, ParityError, RuntimeFailure, SourceError
from modelexport.model import reference
from modelexport_torchscript import mx_load

torch = pytest.importorskip("torch")

HERE = Path(__file__).parent
NETS = HERE / "nets.py"
X = np.linspace(-1, 2, 18, dtype=np.float32).reshape(3, 6)


def net(factory):
    spec = importlib.util.spec_from_file_location("mx_torchscript_nets", NETS)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # the source of its classes must be found
    spec.loader.exec_module(module)
    return getattr(module, factory)()


@pytest.fixture
def export(tmp_path):
    """Export a net; the gate takes a process of its own, so it is off where a test compares by itself."""

    def run(source, mode="auto", verify=False, **more):
        source = f"{NETS}:{source}" if isinstance(source, str) and source.isidentifier() else source
        (artifact,) = mx.export(source, "torchscript", tmp_path, options={"mode": mode}, verify=verify, **more)
        return artifact

    return run


def run_cli(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli._run([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def line_of(text):
    return next(n for n, line in enumerate(NETS.read_text().splitlines(), 1) if text in line)


def eager(source, **inputs):
    with reference.eval_mode(source):
        call = reference.reference(source.module, source.specs, source.outputs)
        return call({name: np.array(array) for name, array in inputs.items()})


def agree(got, want):
    assert list(got) == list(want)
    for name, array in want.items():
        np.testing.assert_allclose(got[name].astype(float), array.astype(float), atol=1e-6, err_msg=name)


# --------------------------------------------------------------------------------------- trace, script, auto


def test_a_plain_model_is_traced_verified_and_equal(export):
    artifact = export("classifier", verify=True)
    assert artifact.parity.verified is True
    assert artifact.details["mode"] == "trace"
    assert "other inputs" in artifact.details["why"]
    assert artifact.details["signature"] == "forward(Tensor input) -> Tensor"
    (note,) = artifact.notes
    assert "deprecated" in note
    assert all(word in note for word in ("torch.export", "captured", "ExecuTorch", "AOTInductor"))
    source = net("classifier")
    with mx.run(artifact.path) as session:
        for batch in (1, 2, 7, 8):
            x = np.random.default_rng(batch).standard_normal((batch, 6)).astype(np.float32)
            agree(session({"x": x}), eager(source, x=x))


def test_a_branch_on_values_is_scripted_and_says_so(export):
    artifact = export("branch", verify=True)
    assert artifact.details["mode"] == "script"
    place = f"nets.py:{line_of('if x.sum() > 0:')} (if x.sum() > 0:)"
    assert place in artifact.details["why"]
    assert place in artifact.notes[0]
    with mx.run(artifact.path) as session:
        for x in (X, -X):
            agree(session({"x": x}), eager(net("branch"), x=x))


def test_a_branch_that_no_check_reaches_is_scripted_too(export):
    artifact = export("rare_branch")
    assert artifact.details["mode"] == "script"
    with mx.run(artifact.path) as session:
        np.testing.assert_array_equal(session({"x": X * 1e6})["output"], X * 1e6 * np.float32(2))


def test_the_gate_catches_a_trace_that_was_asked_for(export, tmp_path):
    with pytest.raises(ParityError, match="output 'output'"):
        export("branch", "trace", verify=True)
    assert (tmp_path / "branch.torchscript.failed" / "model.pt").is_file()
    assert not (tmp_path / "branch.torchscript").exists()


def test_a_trace_that_was_asked_for_says_what_it_froze(export):
    (note, _) = export("branch", "trace").notes
    assert f"nets.py:{line_of('if x.sum() > 0:')}" in note


def test_a_frozen_size_is_scripted(export):
    artifact = export("frozen_length")
    assert artifact.details["mode"] == "script"
    assert "shape" in artifact.details["why"]
    x = np.ones((4, 9), np.float32)
    with mx.run(artifact.path) as session:
        agree(session({"x": x}), eager(net("frozen_length"), x=x))


def test_python_that_no_script_can_be_made_of_is_traced(export):
    assert export("python").details["mode"] == "trace"
    with pytest.raises(ConversionError, match=rf"nets\.py:{line_of('self, x, **options')} ") as caught:
        export("python", "script")
    assert "mode=trace" in caught.value.hint


def test_where_neither_way_leads_the_error_names_both_lines(export):
    with pytest.raises(ConversionError) as caught:
        export("stuck")
    message = caught.value.message
    assert f"nets.py:{line_of('len(self.names)')} (return x * len(self.names))" in message
    assert "a trace freezes what it saw once" in message
    assert "differs by" in message
    assert caught.value.__cause__ is not None


def test_torch_cond_is_neither_traced_nor_scripted(export):
    with pytest.raises(ConversionError, match=rf"nets\.py:{line_of('torch.cond')} ") as caught:
        export("conditional")
    assert "compiling.py" not in caught.value.message


def test_without_a_reference_a_trace_says_that_it_was_not_checked(export):
    artifact = export("noisy")
    assert artifact.details["mode"] == "trace"
    assert "could not be tried" in artifact.details["why"]


@pytest.mark.parametrize("factory", ["counter", "replacing"])
@pytest.mark.parametrize("mode", ["auto", "script"])
def test_state_is_kept_and_starts_as_the_model_s(export, factory, mode):
    source = net(factory)
    artifact = export(source, mode)
    with mx.run(artifact.path) as session:
        got = [session({"x": X})["output"] for _ in range(3)]
    want = [source.module(torch.from_numpy(X)).detach().numpy().copy() for _ in range(3)]
    np.testing.assert_allclose(got, want, atol=1e-6)


# --------------------------------------------------------------------------------------- inputs and outputs


@pytest.mark.parametrize("mode", ["trace", "script"])
@pytest.mark.parametrize("factory", ["dictionary", "pair", "named_outputs"])
def test_outputs_have_the_names_and_order_of_the_model_s(export, factory, mode):
    artifact = export(factory, mode)
    want = eager(net(factory), x=X)
    assert [spec.name for spec in artifact.outputs] == list(want)
    with mx.run(artifact.path) as session:
        agree(session({"x": X}), want)


def test_outputs_that_torchscript_has_no_type_for_become_a_dict_by_name(export):
    artifact = export("nested")
    assert artifact.details["mode"] == "trace"
    assert artifact.details["signature"] == "forward(Tensor x) -> Dict[str, Tensor]"
    with mx.run(artifact.path) as session:
        agree(session({"x": X}), eager(net("nested"), x=X))
    assert list(torch.jit.load(artifact.entry_path)(torch.from_numpy(X))) == [
        "logits",
        "hidden.0",
        "hidden.1.0",
        "x_out",
    ]


@pytest.mark.parametrize("mode", ["trace", "script"])
def test_inputs_in_another_order_than_forward_s(export, mode):
    with mx.run(export("options", mode).path) as session:
        agree(session({"a": X, "b": X * 3}), {"output": X - X * 3})


def test_bfloat16(export):
    import ml_dtypes

    artifact = export("bfloat16")
    x = X.astype(ml_dtypes.bfloat16)
    with mx.run(artifact.path) as session:
        agree(session({"x": x}), eager(net("bfloat16"), x=x))


# --------------------------------------------------------------------------------------- exported methods


@pytest.mark.parametrize("mode", ["auto", "script"])
def test_exported_methods_are_kept(export, mode):
    artifact = export("with_methods", mode)
    assert artifact.details["methods"] == ["scaled"]
    optimized = mx.optimize(artifact.path, options={"method": "freeze"}, verify=False)
    want = net("with_methods").module.scaled(torch.from_numpy(X), 3.0).detach()
    for made in (artifact, optimized):
        got = torch.jit.load(made.entry_path).scaled(torch.from_numpy(X), 3.0).detach()
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_an_exported_method_that_is_lost_is_said_to_be(export):
    artifact = export("nested_with_methods")
    assert artifact.details["methods"] == []
    assert "no scaled" in artifact.notes[0]


# --------------------------------------------------------------------------------------- the user's module


def snapshot(module):
    parts = list(module.modules())
    return {
        "state": [(name, tensor.data_ptr(), tensor.clone()) for name, tensor in module.state_dict().items()],
        "modes": [part.training for part in parts],
        "hooks": [(dict(part._forward_hooks), dict(part._forward_pre_hooks)) for part in parts],
        "grad": [(p.requires_grad, p.grad) for p in module.parameters()],
        "names": [set(vars(part)) for part in parts],
        "types": [set(vars(type(part))) - {"__annotations__"} for part in parts],  # Python adds that when asked
    }


@pytest.mark.parametrize("mode", ["auto", "trace", "script"])
@pytest.mark.parametrize("factory", ["classifier", "counter", "with_methods", "nested", "convolutions"])
def test_the_module_is_untouched(export, factory, mode):
    source = net(factory)
    source.module.train()
    next(source.module.children(), source.module).eval()
    next(source.module.parameters(), torch.zeros(1)).requires_grad_(False)
    before = snapshot(source.module)
    export(source, mode)
    after = snapshot(source.module)
    states = before.pop("state"), after.pop("state")
    assert before == after
    for (name, place, tensor), (other, other_place, now) in zip(*states, strict=True):
        assert (name, place) == (other, other_place)
        assert torch.equal(tensor, now), name


# --------------------------------------------------------------------------------------- sessions


def test_a_session_leaves_inputs_alone_and_gives_outputs_away(export):
    x, first = X.copy(), None
    with mx.run(export("in_place").path) as session:
        agree(session({"x": x}), {"output": X + 1})
        np.testing.assert_array_equal(x, X)
    with mx.run(export("same").path) as session:
        first = session({"x": x})["output"]
        x += 1
        np.testing.assert_array_equal(first, X)
    with mx.run(export("counter").path) as session:
        first = session({"x": X})["output"].copy()
        held = session({"x": X})["output"]
        np.testing.assert_allclose(held, 2 * first, atol=1e-6)
        session({"x": X})
        np.testing.assert_allclose(held, 2 * first, atol=1e-6)


def test_a_session_takes_any_layout_of_an_array(export):
    source = net("classifier")
    frozen = X.copy()
    frozen.flags.writeable = False
    with mx.run(export("classifier").path, {"threads": 1}) as session:
        assert session.details["threads"] == 1
        for x in (X[::-1], np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2], frozen):
            agree(session({"x": x}), eager(source, x=x))
    with pytest.raises(InputError, match="closed"):
        session({"x": X})


def test_what_fails_in_the_model_names_its_line(export):
    artifact = export("picky", "script")
    with mx.run(artifact.path) as session:
        agree(session({"x": X}), {"output": X})
        with pytest.raises(RuntimeFailure, match=rf"nets\.py:{line_of('raise ValueError')} .*: .*too large"):
            session({"x": X * 1e6})


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(export):
    with pytest.raises(CannotRunHere, match="CUDA"):
        mx.run(export("classifier").path, {"device": "cuda"})


# --------------------------------------------------------------------------------------- optimize


@pytest.mark.parametrize("factory", ["lstm", "convolutions"])
def test_optimize_keeps_only_what_is_measured_to_be_no_slower(export, factory):
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


def test_what_can_be_computed_but_not_saved_is_computed_as_the_session_opens(export):
    """optimize_for_inference of a convolution saves a file that does not load, so no session may need it."""
    artifact = export("convolutions")
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    manifest["details"]["at_load"] = ["optimize_for_inference"]
    (artifact.path / "manifest.json").write_text(json.dumps(manifest))
    x = np.ones((2, 3, 16, 16), np.float32)
    with mx.run(artifact.path) as session:
        agree(session({"x": x}), eager(net("convolutions"), x=x))
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


# --------------------------------------------------------------------------------------- existing archives


def silero():
    spec = importlib.util.find_spec("silero_vad")
    if spec is None:
        pytest.skip("silero-vad is not installed")
    return Path(spec.submodule_search_locations[0]) / "data/silero_vad.jit"


def test_silero_as_its_authors_saved_it(export):
    """It keeps its state in plain attributes; every call must answer as theirs does, in a row."""
    inputs = ["x:float32[batch=1..8,512]=-1..1", "sr:int64[]=16000..16000"]
    artifact = export(str(silero()), verify=True, inputs=inputs)
    assert artifact.parity.verified is True
    assert {"reset_states", "audio_forward"} <= set(artifact.details["methods"])
    assert artifact.entry_path.read_bytes() == silero().read_bytes()
    theirs = torch.jit.load(str(silero()))
    sound = np.random.default_rng(0).uniform(-1, 1, (6, 3, 512)).astype(np.float32)
    with mx.run(artifact.path) as session, torch.inference_mode():
        for chunk in sound:
            got = session({"x": chunk, "sr": np.array(16000)})["output"]
            np.testing.assert_array_equal(got, theirs(torch.from_numpy(chunk), 16000).numpy())


def test_an_archive_in_training_mode_is_written_in_eval_mode(export, tmp_path):
    module = torch.jit.script(net("classifier").module.train())
    module.save(str(tmp_path / "mine.pt"))
    artifact = export(str(tmp_path / "mine.pt"), inputs=["input:float32[batch=1..4,6]"])
    assert "training mode" in artifact.notes[0]
    with mx.run(artifact.path) as session:
        agree(session({"input": X}), eager(net("classifier"), x=X))


def test_scalar_arguments_of_an_archive(export, tmp_path):
    sys.modules.pop("mx_torchscript_nets", None)
    net("classifier")
    scalars = sys.modules["mx_torchscript_nets"].Scalars
    torch.jit.script(scalars()).save(str(tmp_path / "scalars.ts"))
    inputs = ["x:float32[n=1..4]", "by:float64[]=0.5..2", "plus:int64[]=-3..3", "on:bool[]"]
    artifact = export(str(tmp_path / "scalars.ts"), inputs=inputs)
    with mx.run(artifact.path) as session:
        got = session({"x": X[0, :2], "by": np.array(0.5), "plus": np.array(3), "on": np.array(True)})
    agree(got, {"output": X[0, :2] * 0.5 + 3})


def test_an_archive_whose_inputs_are_not_declared(tmp_path):
    with pytest.raises(InputError, match=r"forward\(Tensor x, int sr\) -> Tensor") as caught:
        mx_load(str(silero()), LoadOptions())
    assert "--input 'sr:int64[]=" in caught.value.hint
    with pytest.raises(InputError, match="no parameter 'rate'"):
        mx.export(str(silero()), "torchscript", tmp_path, inputs=["x:float32[1,512]", "rate:int64[]=1..2"])


def test_files_that_hold_no_torchscript(tmp_path):
    model = net("classifier").module
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    torch.save(model, tmp_path / "pickled.pt")
    (tmp_path / "text.pt").write_text("PK is how it begins")
    np.savez(tmp_path / "arrays.npz", x=X)
    for name in ("weights.pt", "pickled.pt", "arrays.npz", "absent.pt", "", "hf/some-id"):
        assert mx_load(str(tmp_path / name), LoadOptions()) is None, name
    with pytest.raises(SourceError, match="holds weights, not a model"):
        mx.export(tmp_path / "weights.pt", "torchscript", tmp_path)
    with pytest.raises(SourceError, match="no TorchScript archive"):
        mx_load(str(tmp_path / "text.pt"), LoadOptions())


def test_damaged_archives(tmp_path):
    place = tmp_path / "net.pt"
    torch.jit.script(net("classifier").module).save(str(place))
    whole = place.read_bytes()
    place.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"net\.pt is no TorchScript archive, or a damaged one"):
        mx_load(str(place), LoadOptions())
    (tmp_path / "junk.jit").write_bytes(b"junk")
    with pytest.raises(SourceError, match=r"junk\.jit is no TorchScript archive"):
        mx_load(str(tmp_path / "junk.jit"), LoadOptions())
    place.write_bytes(whole)
    with zipfile.ZipFile(place) as good, zipfile.ZipFile(tmp_path / "code.pt", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, b"def" if name.endswith(".py") else good.read(name))
    with pytest.raises(SourceError, match=r"code\.pt is a damaged TorchScript archive"):
        mx_load(str(tmp_path / "code.pt"), LoadOptions())


def test_several_forwards_and_none_to_call(export):
    with pytest.raises(ConversionError, match="several forwards of LSTM"):
        export("lstm", "script")


# --------------------------------------------------------------------------------------- cost and noise


def test_describing_the_plugin_and_refusing_a_reference_import_nothing_heavy():
    code = (
        "import sys, modelexport_torchscript as p; from modelexport.contract import LoadOptions; p.mx_target()\n"
        "assert p.mx_load(ref='some/model', options=LoadOptions()) is None\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.slow
def test_nothing_is_written_to_stderr(tmp_path):
    """Warnings are on, as in a test run or a notebook of the user's."""
    command = [sys.executable, "-W", "always", "-m", "modelexport.cli"]
    code = "import sys; from modelexport import cli; sys.exit(cli._run(sys.argv[1:]))"
    command = [sys.executable, "-W", "always::DeprecationWarning", "-W", "always::UserWarning", "-c", code]
    for verb in (
        ["export", f"{NETS}:branch", "-t", "torchscript", "-o", str(tmp_path)],
        ["optimize", str(tmp_path / "branch.torchscript"), "--no-verify"],
        ["run", str(tmp_path / "branch.torchscript"), "--input", "x=0.5"],
    ):
        done = subprocess.run([*command, *verb], capture_output=True, text=True, timeout=300)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_the_readme_s_c_plus_plus_runs_an_artifact(export, tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("there is no g++")
    readme = (HERE.parent / "README.md").read_text(encoding="utf-8")
    (tmp_path / "run.cpp").write_text(re.search(r"```cpp\n(.*?)```", readme, re.DOTALL)[1])
    build = re.search(r"g\+\+ (?:.*\\\n)*.*", readme)[0].replace("$torch", torch.__path__[0])
    subprocess.run(build, shell=True, cwd=tmp_path, check=True, timeout=500)
    artifact = export("classifier")
    done = subprocess.run([tmp_path / "run", artifact.entry_path], capture_output=True, text=True, check=True)
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 6)
    with mx.run(artifact.path) as session:
        want = session({"x": x})["output"]
    np.testing.assert_allclose(np.array(done.stdout.split(), np.float32).reshape(2, 3), want, atol=1e-6)
