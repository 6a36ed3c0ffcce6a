"""Which way is taken and why, what is written, and what it computes."""

import modelexport as mx
import numpy as np
import pytest
from modelexport.errors import ConversionError, ParityError

# --------------------------------------------------------------------------------------- trace, script, auto


def test_a_plain_model_is_traced_verified_and_equal(export, nets, eager, agree):
    artifact = export("classifier", verify=True)
    assert artifact.parity.verified is True
    assert artifact.details["mode"] == "trace"
    assert "other inputs" in artifact.details["why"]
    assert artifact.details["signature"] == "forward(Tensor input) -> Tensor"
    (note,) = artifact.notes
    assert "deprecated" in note
    assert all(word in note for word in ("torch.export", "captured", "ExecuTorch", "AOTInductor"))
    source = nets.source("classifier")
    with mx.run(artifact.path) as session:
        for batch in (1, 2, 7, 8):
            x = np.random.default_rng(batch).standard_normal((batch, 6)).astype(np.float32)
            agree(session({"x": x}), eager(source, x=x))


def test_the_ways_that_are_tried_are_told(export):
    told = []
    export("branch", progress=lambda event: told.append(str(event)))
    ways = [line for line in told if line.startswith(("trace", "compare", "script"))]
    assert ways == [
        "trace the model",
        "compare with the model on 14 other inputs",
        "script the model",
        "compare with the model on 14 other inputs",
    ]


def test_a_branch_on_values_is_scripted_and_says_so(export, nets, rows, eager, agree):
    artifact = export("branch", verify=True)
    assert artifact.details["mode"] == "script"
    place = f"nets.py:{nets.line_of('if x.sum() > 0:')} (if x.sum() > 0:)"
    assert place in artifact.details["why"]
    assert place in artifact.notes[0]
    with mx.run(artifact.path) as session:
        for x in (rows, -rows):
            agree(session({"x": x}), eager(nets.source("branch"), x=x))


def test_a_branch_that_no_check_reaches_is_scripted_too(export, rows):
    artifact = export("rare_branch")
    assert artifact.details["mode"] == "script"
    with mx.run(artifact.path) as session:
        np.testing.assert_array_equal(session({"x": rows * 1e6})["output"], rows * 1e6 * np.float32(2))


def test_the_gate_catches_a_trace_that_was_asked_for(export, tmp_path):
    with pytest.raises(ParityError, match="output 'output'"):
        export("branch", "trace", verify=True)
    assert (tmp_path / "branch.torchscript.failed" / "model.pt").is_file()
    assert not (tmp_path / "branch.torchscript").exists()


def test_a_trace_that_was_asked_for_says_what_it_froze(export, nets):
    (note, _) = export("branch", "trace").notes
    assert f"nets.py:{nets.line_of('if x.sum() > 0:')}" in note


def test_a_frozen_size_is_scripted(export, nets, eager, agree):
    artifact = export("frozen_length")
    assert artifact.details["mode"] == "script"
    assert "shape" in artifact.details["why"]
    x = np.ones((4, 9), np.float32)
    with mx.run(artifact.path) as session:
        agree(session({"x": x}), eager(nets.source("frozen_length"), x=x))


def test_python_that_no_script_can_be_made_of_is_traced(export, nets):
    assert export("python").details["mode"] == "trace"
    with pytest.raises(ConversionError, match=rf"nets\.py:{nets.line_of('self, x, **options')} ") as caught:
        export("python", "script")
    assert "mode=trace" in caught.value.hint


def test_where_neither_way_leads_the_error_names_both_lines(export, nets):
    with pytest.raises(ConversionError, match=r"torch\.jit\.script can't compile the model") as caught:
        export("stuck")
    message = caught.value.message
    assert f"nets.py:{nets.line_of('len(self.names)')} (return x * len(self.names))" in message
    assert "a trace freezes what it saw once" in message
    assert "max abs difference" in message
    assert caught.value.__cause__ is not None


def test_torch_cond_is_neither_traced_nor_scripted(export, nets):
    with pytest.raises(ConversionError, match=rf"nets\.py:{nets.line_of('torch.cond')} ") as caught:
        export("conditional")
    assert "compiling.py" not in caught.value.message


def test_without_a_reference_a_trace_says_that_it_was_not_checked(export):
    artifact = export("noisy")
    assert artifact.details["mode"] == "trace"
    assert "could not be tried" in artifact.details["why"]


@pytest.mark.parametrize("factory", ["counter", "replacing"])
@pytest.mark.parametrize("mode", ["auto", "script"])
def test_state_is_kept_and_starts_as_the_model_s(export, factory, mode, torch, nets, rows):
    source = nets.source(factory)
    artifact = export(source, mode)
    with mx.run(artifact.path) as session:
        got = [session({"x": rows})["output"] for _ in range(3)]
    want = [source.module(torch.from_numpy(rows)).detach().numpy().copy() for _ in range(3)]
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_several_forwards_and_none_to_call(export):
    with pytest.raises(ConversionError, match="several forwards of LSTM"):
        export("lstm", "script")


# --------------------------------------------------------------------------------------- inputs and outputs


@pytest.mark.parametrize("mode", ["trace", "script"])
@pytest.mark.parametrize("factory", ["dictionary", "pair", "named_outputs"])
def test_outputs_have_the_names_and_order_of_the_model_s(export, factory, mode, nets, rows, eager, agree):
    artifact = export(factory, mode)
    want = eager(nets.source(factory), x=rows)
    assert [spec.name for spec in artifact.outputs] == list(want)
    with mx.run(artifact.path) as session:
        agree(session({"x": rows}), want)


def test_outputs_that_torchscript_has_no_type_for_become_a_dict_by_name(export, torch, nets, rows, eager, agree):
    artifact = export("nested")
    assert artifact.details["mode"] == "trace"
    assert artifact.details["signature"] == "forward(Tensor x) -> Dict[str, Tensor]"
    with mx.run(artifact.path) as session:
        agree(session({"x": rows}), eager(nets.source("nested"), x=rows))
    assert list(torch.jit.load(artifact.entry_path)(torch.from_numpy(rows))) == [
        "logits",
        "hidden.0",
        "hidden.1.0",
        "x_out",
    ]


@pytest.mark.parametrize("mode", ["trace", "script"])
def test_inputs_in_another_order_than_forward_s(export, mode, rows, agree):
    with mx.run(export("options", mode).path) as session:
        agree(session({"a": rows, "b": rows * 3}), {"output": rows - rows * 3})


def test_bfloat16(export, nets, rows, eager, agree):
    import ml_dtypes

    artifact = export("bfloat16")
    x = rows.astype(ml_dtypes.bfloat16)
    with mx.run(artifact.path) as session:
        agree(session({"x": x}), eager(nets.source("bfloat16"), x=x))


# --------------------------------------------------------------------------------------- exported methods


@pytest.mark.parametrize("mode", ["auto", "script"])
def test_exported_methods_are_kept(export, mode, torch, nets, rows):
    artifact = export("with_methods", mode)
    assert artifact.details["methods"] == ["scaled"]
    optimized = mx.optimize(artifact.path, options={"method": "freeze"}, verify=False)
    want = nets.source("with_methods").module.scaled(torch.from_numpy(rows), 3.0).detach()
    for made in (artifact, optimized):
        got = torch.jit.load(made.entry_path).scaled(torch.from_numpy(rows), 3.0).detach()
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
def test_the_module_is_untouched(export, factory, mode, torch, nets):
    source = nets.source(factory)
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
