"""Everything that SOURCE may be, what `--weights`, `--sample` and names do to it, and sessions on the result."""

import json
import sys
from pathlib import Path

import modelexport
import numpy as np
import pytest
import torch
from modelexport.errors import InputError, OptionError, SourceError
from torch import nn

NETS = """
from collections import namedtuple

import torch
from torch import nn

import modelexport


def line():
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def with_tuple():
    return line(), (torch.zeros(2, 4),)


def with_list():
    return line(), [torch.zeros(2, 4)]


def with_tensor():
    return line(), torch.zeros(2, 4)


def with_dict():
    return line(), {"input": torch.zeros(2, 4)}


def as_source():
    inputs = ("input:float32[batch=1..8,4]",)
    return modelexport.Source(line(), inputs, outputs=("scores",), name="scorer")


def as_program():
    return torch.export.export(line(), (torch.zeros(2, 4),))


class Line(nn.Linear):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__(4, 3)


instance = line()
ready = modelexport.Source(line(), ("input:float32[batch=1..8,4]",))


class Two(nn.Module):
    def forward(self, left, right):
        return left - 2 * right


def two():
    return Two()


Pair = namedtuple("Pair", "mean largest")


class Answers(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        mean, largest = x.mean(1), x.amax(1)
        match self.kind:
            case "tuple":
                return mean, largest
            case "dict":
                return {"mean": mean, "largest": largest}
            case "named":
                return Pair(mean, largest)
            case "nested":
                return {"both": (mean, largest), "x": x + 1}
            case "none":
                return mean, None, largest


def answers(kind):
    return lambda: (Answers(kind), (torch.zeros(2, 4),))


tuple_, dict_, named, nested, none = map(answers, ("tuple", "dict", "named", "nested", "none"))
"""

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
DECLARED = ["input:float32[batch=1..8,4]"]


def line():
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def wanted(x=X):
    with torch.no_grad():
        return line()(torch.from_numpy(x)).numpy()


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    file = tmp_path_factory.mktemp("nets") / "nets.py"
    file.write_text(NETS)
    return file


@pytest.fixture
def capture(tmp_path):
    """Export to the format that core itself writes; the gate is tested elsewhere."""

    def export(source, **keywords):
        (artifact,) = modelexport.export(source, "captured", tmp_path / "out", verify=False, **keywords)
        return artifact

    return export


def answer(artifact, **inputs):
    with modelexport.run(artifact.path) as session:
        return session(inputs)


# --------------------------------------------------------------------------------------- references


@pytest.mark.parametrize("factory", ["with_tuple", "with_list", "with_tensor", "with_dict", "as_program"])
def test_factories_with_an_example_need_no_declaration(capture, nets, factory):
    artifact = capture(f"{nets}:{factory}")
    assert artifact.path.name == f"{factory}.captured"
    assert [str(spec) for spec in artifact.inputs] == ["input:float32[2,4]"]
    assert np.array_equal(answer(artifact, input=X[:2])["output"], wanted(X[:2]))


@pytest.mark.parametrize("factory", ["line", "Line", "instance", "with_tuple"])
def test_a_declaration_makes_dims_dynamic(capture, nets, factory):
    artifact = capture(f"{nets}:{factory}", inputs=DECLARED)
    assert [str(spec) for spec in artifact.inputs] == DECLARED
    assert [str(spec) for spec in artifact.outputs] == ["output:float32[batch=1..8,3]"]
    for size in (1, 3):
        assert np.allclose(answer(artifact, input=X[:size])["output"], wanted(X[:size]), atol=1e-6)


@pytest.mark.parametrize(
    ("factory", "name", "output"), [("as_source", "scorer", "scores"), ("ready", "ready", "output")]
)
def test_a_source_says_everything_itself(capture, nets, factory, name, output):
    artifact = capture(f"{nets}:{factory}")
    assert artifact.path.name == f"{name}.captured"
    assert [str(spec) for spec in artifact.inputs] == DECLARED
    assert np.allclose(answer(artifact, input=X)[output], wanted(), atol=1e-6)


def test_a_name_given_wins(capture, nets):
    assert capture(f"{nets}:as_source", name="mine").path.name == "mine.captured"


def test_a_module_by_its_dotted_name(capture, nets, tmp_path, monkeypatch):
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "__init__.py").write_text("")
    (tmp_path / "shelf" / "parts.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    artifact = capture("shelf.parts:with_tuple")
    assert np.array_equal(answer(artifact, input=X[:2])["output"], wanted(X[:2]))
    assert artifact.lineage[0].source["ref"] == "shelf.parts:with_tuple"


def test_a_file_sees_its_neighbours(capture, tmp_path):
    (tmp_path / "neighbour_of_mine.py").write_text("WIDTH = 5\n")
    code = "import torch\nfrom neighbour_of_mine import WIDTH\n\n\ndef net():\n"
    (tmp_path / "net.py").write_text(code + "    return torch.nn.Linear(4, WIDTH), (torch.zeros(2, 4),)\n")
    assert capture(f"{tmp_path / 'net.py'}:net").outputs[0].shape == (2, 5)


def test_a_torch_export_program(capture, tmp_path):
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(line(), (torch.zeros(2, 4),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "model.pt2")
    artifact = capture(tmp_path / "model.pt2")
    (spec,) = artifact.inputs
    (dim,) = spec.dims
    assert (spec.name, dim.min, dim.max) == ("input", 1, 8)
    assert np.allclose(answer(artifact, input=X)["output"], wanted(), atol=1e-6)


@pytest.fixture(scope="module")
def onnx_artifact(tmp_path_factory):
    (artifact,) = modelexport.export(line(), "onnx", tmp_path_factory.mktemp("onnx"), inputs=DECLARED, name="line")
    return artifact


def test_a_live_module_is_left_as_it_was(tmp_path):
    module = nn.Sequential(line(), nn.BatchNorm1d(3), nn.Dropout(0.5))
    module.train()
    module[1].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    (artifact,) = modelexport.export(module, ["captured"], tmp_path, inputs=DECLARED, verify=False)
    assert artifact.path.name == "model.captured"
    assert [part.training for part in module] == [True, False, True]
    assert module.training
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_existing_onnx_file(onnx_artifact, tmp_path):
    file = tmp_path / "theirs.onnx"
    file.write_bytes(onnx_artifact.entry_path.read_bytes())
    (artifact,) = modelexport.export(file, "onnx", tmp_path / "out")
    assert artifact.path.name == "theirs.onnx"
    assert artifact.parity.verified is True
    assert artifact.entry_path.read_bytes() == file.read_bytes()
    assert [spec.name for spec in artifact.inputs] == ["input"]
    assert np.allclose(answer(artifact, input=X)["output"], wanted(), atol=1e-6)


def test_an_artifact_as_source_keeps_its_reference_and_its_history(capture, nets, tmp_path):
    first = capture(f"{nets}:as_source")
    (second,) = modelexport.export(first.path, "onnx", tmp_path)
    assert second.path.name == "scorer.onnx"
    assert second.parity.verified is True
    assert [(step.verb, step.target) for step in second.lineage] == [("export", "captured"), ("export", "onnx")]
    assert second.lineage[0].source["ref"] == f"{nets}:as_source"
    with np.load(first.golden) as one, np.load(second.golden) as other:
        assert set(one) == set(other)
        assert all(np.array_equal(one[name], other[name]) for name in one)
    assert np.allclose(answer(second, input=X)["scores"], wanted(), atol=1e-6)


def test_an_artifact_as_source_takes_no_sample(capture, nets, tmp_path):
    first = capture(f"{nets}:as_source")
    np.savez(tmp_path / "s.npz", input=X)
    with pytest.raises(OptionError, match="golden data stands for the model"):
        modelexport.export(first.path, "onnx", tmp_path, sample=tmp_path / "s.npz")


def test_several_targets_in_their_order(nets, tmp_path):
    made = modelexport.export(f"{nets}:as_source", ["onnx", "captured"], tmp_path, verify=False)
    assert [artifact.format for artifact in made] == ["onnx", "captured"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scorer.captured", "scorer.onnx"]


# --------------------------------------------------------------------------------------- names


def test_inputs_have_the_names_of_the_forward(capture, nets):
    artifact = capture(f"{nets}:two", inputs=["right:float32[n,2]", "left:float32[n,2]"])
    assert [spec.name for spec in artifact.inputs] == ["right", "left"]
    ones = np.ones((3, 2), np.float32)
    assert (answer(artifact, left=ones, right=3 * ones)["output"] == -5).all()


def test_other_names_are_taken_by_position(capture, nets):
    artifact = capture(f"{nets}:two", inputs=["a:float32[n,2]", "b:float32[n,2]"])
    ones = np.ones((3, 2), np.float32)
    assert (answer(artifact, a=ones, b=3 * ones)["output"] == -5).all()


def test_a_mixture_of_names_is_refused(capture, nets):
    with pytest.raises(InputError, match=r"no parameter 'b'.*left, right"):
        capture(f"{nets}:two", inputs=["left:float32[n,2]", "b:float32[n,2]"])


@pytest.mark.parametrize(
    ("factory", "names"),
    [
        ("tuple_", ["output_0", "output_1"]),
        ("dict_", ["mean", "largest"]),
        ("named", ["mean", "largest"]),
        ("nested", ["both.0", "both.1", "x_out"]),
        ("none", ["output_0", "output_2"]),
    ],
)
def test_outputs_have_the_models_own_names(nets, tmp_path, factory, names):
    (artifact,) = modelexport.export(f"{nets}:{factory}", "onnx", tmp_path, verify=False)
    assert [spec.name for spec in artifact.outputs] == names
    outputs = answer(artifact, x=X[:2])
    assert list(outputs) == names
    assert np.allclose(outputs[names[0]], X[:2].mean(1), atol=1e-6)
    assert np.allclose(outputs[names[1]], X[:2].max(1))


# --------------------------------------------------------------------------------------- weights


def constant(value):
    return {"weight": torch.full((3, 4), float(value)), "bias": torch.zeros(3)}


def shards(folder, save, suffix):
    """Two files and the index that names them, as Hugging Face writes them."""
    state, index = constant(5), {}
    for number, (name, tensor) in enumerate(state.items(), 1):
        index[name] = f"model-{number}-of-2{suffix}"
        save({name: tensor}, folder / index[name])
    file = folder / f"model{suffix}.index.json"
    file.write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return file


def written(kind, folder):
    from safetensors.torch import save_file

    file = folder / "weights.pt"
    if kind == "safetensors":
        save_file(constant(5), folder / "w.safetensors")
        return folder / "w.safetensors"
    if kind == "safetensors index":
        return shards(folder, save_file, ".safetensors")
    if kind == "torch index":
        return shards(folder, torch.save, ".bin")
    if kind == "folder":
        return shards(folder, save_file, ".safetensors").parent
    nested = {"state dict": constant(5), "checkpoint": {"epoch": 3, "state_dict": constant(5)}}
    torch.save(nested[kind], file)
    return file


KINDS = ["safetensors", "safetensors index", "torch index", "folder", "state dict", "checkpoint"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.replace(" ", "-"))
def test_weights_are_laid_over_the_factorys_module(capture, nets, tmp_path, kind):
    artifact = capture(f"{nets}:with_tuple", weights=written(kind, tmp_path))
    got = answer(artifact, input=X[:2])["output"]
    assert np.allclose(got, 5 * X[:2].sum(1, keepdims=True).repeat(3, 1), atol=1e-5)


def test_weights_change_the_fingerprint(capture, nets, tmp_path):
    plain = capture(f"{nets}:with_tuple").lineage[0].source["fingerprint"]
    again = capture(f"{nets}:with_tuple").lineage[0].source["fingerprint"]
    other = (
        capture(f"{nets}:with_tuple", weights=written("safetensors", tmp_path)).lineage[0].source["fingerprint"]
    )
    assert plain == again != other


def test_weights_for_a_program_are_refused(capture, tmp_path):
    program = torch.export.export(line(), (torch.zeros(2, 4),))
    torch.export.save(program, tmp_path / "model.pt2")
    with pytest.raises(SourceError, match="has its own"):
        capture(tmp_path / "model.pt2", weights=written("safetensors", tmp_path))


def test_a_shard_outside_the_folder_is_refused(capture, nets, tmp_path):
    file = tmp_path / "model.safetensors.index.json"
    file.write_text(json.dumps({"weight_map": {"weight": "../elsewhere.safetensors"}}))
    with pytest.raises(SourceError, match="outside its folder"):
        capture(f"{nets}:with_tuple", weights=file)


# --------------------------------------------------------------------------------------- samples


def test_samples_become_cases_of_the_gate(nets, tmp_path):
    np.savez(tmp_path / "s.npz", **{"input/0": X, "input/1": X[:1] * 100})
    (artifact,) = modelexport.export(f"{nets}:as_source", "onnx", tmp_path, sample=tmp_path / "s.npz")
    assert {"sample 0", "sample 1"} <= set(artifact.parity.cases)
    from modelexport.gate import golden

    kept = {case.name: case for case in golden.load(artifact.golden).cases}
    assert np.array_equal(kept["sample 1"].inputs["input"], X[:1] * 100)
    assert np.allclose(kept["sample 0"].outputs["scores"], wanted(), atol=1e-6)


def test_a_sample_that_does_not_fit_is_named(capture, nets, tmp_path):
    np.savez(tmp_path / "s.npz", **{"input/0": X, "input/1": np.zeros((1, 5), np.float32)})
    with pytest.raises(InputError, match=r"sample 1 of .*s\.npz: input 'input' has size 5 on axis 1"):
        capture(f"{nets}:as_source", sample=tmp_path / "s.npz")


# --------------------------------------------------------------------------------------- what is reported


def test_export_as_json_is_the_manifest_and_is_stable(mx, nets, tmp_path, read_manifest):
    found = []
    for folder in ("one", "two"):
        result = mx("export", f"{nets}:as_source", "-t", "onnx", "-o", tmp_path / folder, "--json")
        assert result.code == 0, result.err
        (shown,) = result.json["artifacts"]
        place = Path(shown.pop("path"))
        assert place == tmp_path / folder / "scorer.onnx"
        assert shown == read_manifest(place)
        found.append(shown)
    assert found[0] == found[1]
    assert set(found[0]) == {
        *("schema", "format", "entry", "precision", "dims", "inputs", "outputs", "verified", "parity", "lineage"),
        *("processing", "details", "files"),
    }
    assert found[0]["inputs"] == [{"name": "input", "dtype": "float32", "shape": ["batch", 4]}]
    assert found[0]["dims"]["batch"] == {"min": 1, "max": 8, "multiple": 1}
    assert found[0]["verified"] is True


def test_the_lineage_says_how_to_make_it_again(onnx_artifact):
    (step,) = onnx_artifact.lineage
    assert (step.verb, step.target, step.options["opset"]) == ("export", "onnx", 20)
    assert step.tools["torch"] == torch.__version__.partition("+")[0] or step.tools["torch"] == torch.__version__
    assert {"modelexport", "modelexport-onnx", "onnx", "onnxscript"} <= set(step.tools)
    assert len(step.source["fingerprint"]) == 64


# --------------------------------------------------------------------------------------- sessions


def test_a_session_answers_any_number_of_times(onnx_artifact):
    with modelexport.run(onnx_artifact.path) as session:
        assert [str(spec) for spec in session.inputs] == DECLARED
        first = session({"input": X})["output"]
        kept = first.copy()
        second = session({"input": -X})["output"]
        assert np.array_equal(first, kept)  # its outputs are not overwritten by the next call
        assert not np.array_equal(first, second)
        assert session({"input": X[:1]})["output"].shape == (1, 3)
    assert first.dtype == np.float32
    assert np.allclose(first, wanted(), atol=1e-6)


def test_a_session_does_not_change_its_inputs(onnx_artifact):
    given = X.copy()
    with modelexport.run(onnx_artifact.path) as session:
        session({"input": given})
    assert np.array_equal(given, X)


def test_a_session_takes_arrays_of_any_layout(onnx_artifact):
    with modelexport.run(onnx_artifact.path, {"threads": 1}) as session:
        for array in (np.asfortranarray(X), np.repeat(X, 2, 1)[:, ::2], X[::-1][::-1]):
            assert np.allclose(session({"input": array})["output"], wanted(), atol=1e-6)


def test_a_closed_session_says_so(onnx_artifact):
    session = modelexport.run(onnx_artifact.path)
    session.close()
    session.close()
    with pytest.raises(InputError, match="closed"):
        session({"input": X})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "'input' is missing"),
        ({"input": X, "more": X}, "no input 'more'"),
        ({"input": X.astype(np.float64)}, "dtype float64"),
        ({"input": X.tolist()}, "dtype list"),
        ({"input": X[0]}, "rank 1"),
        ({"input": np.zeros((9, 4), np.float32)}, "size 9 on axis 0"),
    ],
    ids=["missing", "more", "dtype", "list", "rank", "size"],
)
def test_a_session_refuses_inputs_that_do_not_fit(onnx_artifact, inputs, message):
    with modelexport.run(onnx_artifact.path) as session, pytest.raises(InputError, match=message):
        session(inputs)
