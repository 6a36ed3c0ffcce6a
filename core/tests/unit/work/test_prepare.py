"""A source is prepared once for every target, and left as it was."""

import json

import modelexport
import numpy as np
import pytest
from modelexport.errors import InputError
from modelexport.gate import golden
from modelexport.usercode import import_object

pytestmark = pytest.mark.usefixtures("toys")

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


# --------------------------------------------------------------------------------------- samples


def test_samples_become_cases_of_the_gate(nets, tmp_path):
    np.savez(tmp_path / "s.npz", **{"input/0": X, "input/1": X[:1] * 100})
    source = nets("sources", "as_source")
    (artifact,) = modelexport.export(source, "tape", tmp_path, sample=tmp_path / "s.npz")
    assert {"sample 0", "sample 1"} <= set(artifact.parity.cases)
    kept = {case.name: case for case in golden.load(artifact.golden).cases}
    assert np.array_equal(kept["sample 1"].inputs["input"], X[:1] * 100)
    model = import_object(nets("sources", "line"))()
    wanted = X @ model.weight.detach().numpy().T + model.bias.detach().numpy()
    assert np.allclose(kept["sample 0"].outputs["scores"], wanted, atol=1e-6)


def test_a_sample_that_does_not_fit_is_named(nets, tmp_path):
    np.savez(tmp_path / "s.npz", **{"input/0": X, "input/1": np.zeros((1, 5), np.float32)})
    with pytest.raises(InputError, match=r"sample 1 of .*s\.npz: input 'input' has size 5 on axis 1"):
        modelexport.export(nets("sources", "as_source"), "tape", tmp_path / "out", sample=tmp_path / "s.npz")
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------------------- the user's model


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
    artifacts = modelexport.export(model, ["tape", "captured"], tmp_path, inputs=["x:float32[batch=1..4,3,8,8]"])
    assert [artifact.parity.verified for artifact in artifacts] == [True, True]
    assert seen, "the hook is the user's: the reference must have run through it"
    after = _snapshot(model)
    for part in before:
        assert after[part] == before[part], part
    assert torch.equal(torch.get_rng_state(), random_state)


def test_two_targets_capture_once(tmp_path, nets, monkeypatch):
    import torch

    calls, real = [], torch.export.export
    monkeypatch.setattr(torch.export, "export", lambda *a, **k: calls.append(1) or real(*a, **k))
    events = []
    artifacts = modelexport.export(
        nets("traps", "counter_twin"), ["tape", "captured"], tmp_path, progress=events.append
    )
    assert len(calls) == 1
    assert [artifact.parity.verified for artifact in artifacts] == [True, True]
    assert [artifact.format for artifact in artifacts] == ["tape", "captured"], "in the order asked for"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counter_twin.captured", "counter_twin.tape"]
    assert list(map(str, events)).count("capture with torch.export") == 1


def test_the_lineage_says_how_to_make_it_again(artifact):
    import torch

    (step,) = modelexport.load(artifact).lineage
    assert (step.verb, step.target) == ("export", "tape")
    assert step.options == {
        "version": 2, "compact": True, "weights": "inside", "words": [], "licence": None, "escape": False,
    }  # fmt: skip
    assert step.tools["torch"] == torch.__version__.partition("+")[0] or step.tools["torch"] == torch.__version__
    assert {"modelexport", "toy-tape", "torch", "numpy"} <= set(step.tools)
    assert len(step.source["fingerprint"]) == 64
    assert step.source["ref"] == str(artifact.parent / "two.py:two")


def test_options_reach_the_target_and_all_of_its_files_are_the_artifacts(nets, tmp_path):
    (tmp_path / "licence.txt").write_text("Free for all.")
    options = {
        "weights": "beside",
        "words": "one,two",
        "licence": str(tmp_path / "licence.txt"),
        "tape.version": 3,
    }
    (made,) = modelexport.export(nets("two", "two"), "tape", tmp_path, options=options)
    assert made.parity.verified is True
    assert [entry.path for entry in made.files] == ["golden.npz", "model.tape", "model.tape.weights"]
    assert made.size == sum((made.path / name).stat().st_size for name in ("model.tape", "model.tape.weights"))
    with np.load(made.entry_path) as data:
        tape = json.loads(data["tape"].item())
    assert (tape["version"], tape["head"]) == (3, ["one", "two", "Free for all."])
    assert made.lineage[0].options["words"] == ["one", "two"]
