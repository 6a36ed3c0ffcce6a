"""Everything that SOURCE may be, and the names that inputs and outputs get from it."""

import shutil
import sys

import modelexport
import numpy as np
import pytest
from modelexport.errors import InputError, OptionError
from modelexport.usercode import import_object

pytestmark = pytest.mark.usefixtures("toys")

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
DECLARED = ["input:float32[batch=1..8,4]"]


@pytest.fixture(scope="module")
def sources(nets):
    """`sources("line")`: the reference of a factory in nets/sources.py."""
    return lambda factory: nets("sources", factory)


@pytest.fixture(scope="module")
def line(sources):
    """A fresh module, the one that most factories give."""
    return import_object(sources("line"))


@pytest.fixture(scope="module")
def wanted(line):
    """What it answers."""
    import torch

    def call(x=X):
        with torch.no_grad():
            return line()(torch.from_numpy(x)).numpy()

    return call


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
def test_factories_with_an_example_need_no_declaration(capture, sources, wanted, factory):
    artifact = capture(sources(factory))
    assert artifact.path.name == f"{factory}.captured"
    assert [str(spec) for spec in artifact.inputs] == ["input:float32[2,4]"]
    assert np.array_equal(answer(artifact, input=X[:2])["output"], wanted(X[:2]))


@pytest.mark.parametrize("factory", ["line", "Line", "instance", "with_tuple"])
def test_a_declaration_makes_dims_dynamic(capture, sources, wanted, factory):
    artifact = capture(sources(factory), inputs=DECLARED)
    assert [str(spec) for spec in artifact.inputs] == DECLARED
    assert [str(spec) for spec in artifact.outputs] == ["output:float32[batch=1..8,3]"]
    for size in (1, 3):
        assert np.allclose(answer(artifact, input=X[:size])["output"], wanted(X[:size]), atol=1e-6)


@pytest.mark.parametrize(
    ("factory", "name", "output"), [("as_source", "scorer", "scores"), ("ready", "ready", "output")]
)
def test_a_source_says_everything_itself(capture, sources, wanted, factory, name, output):
    artifact = capture(sources(factory))
    assert artifact.path.name == f"{name}.captured"
    assert [str(spec) for spec in artifact.inputs] == DECLARED
    assert np.allclose(answer(artifact, input=X)[output], wanted(), atol=1e-6)


def test_a_name_given_wins(capture, sources):
    assert capture(sources("as_source"), name="mine").path.name == "mine.captured"


def test_a_module_by_its_dotted_name(capture, sources, wanted, tmp_path, monkeypatch):
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "__init__.py").write_text("")
    shutil.copy(sources("line").rpartition(":")[0], tmp_path / "shelf" / "parts.py")
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


def test_a_torch_export_program(capture, line, wanted, tmp_path):
    import torch

    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(line(), (torch.zeros(2, 4),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "model.pt2")
    artifact = capture(tmp_path / "model.pt2")
    (spec,) = artifact.inputs
    (dim,) = spec.dims
    assert (spec.name, dim.min, dim.max) == ("input", 1, 8)
    assert np.allclose(answer(artifact, input=X)["output"], wanted(), atol=1e-6)


def test_a_live_module_is_left_as_it_was(line, tmp_path):
    import torch

    module = torch.nn.Sequential(line(), torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5))
    module.train()
    module[1].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    (artifact,) = modelexport.export(module, ["captured"], tmp_path, inputs=DECLARED, verify=False)
    assert artifact.path.name == "model.captured"
    assert [part.training for part in module] == [True, False, True]
    assert module.training
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_file_that_a_source_plugin_loads(sources, wanted, tmp_path):
    """It is adopted as it is, and its own answers are the reference."""
    (made,) = modelexport.export(sources("with_tuple"), "tape", tmp_path, inputs=DECLARED, verify=False)
    file = tmp_path / "theirs.tape"
    file.write_bytes(made.entry_path.read_bytes())
    (artifact,) = modelexport.export(file, "tape", tmp_path / "out")
    assert artifact.path.name == "theirs.tape"
    assert artifact.parity.verified is True
    assert artifact.entry_path.read_bytes() == file.read_bytes()
    assert [spec.name for spec in artifact.inputs] == ["input"]
    assert np.allclose(answer(artifact, input=X)["output"], wanted(), atol=1e-6)


def test_an_artifact_as_source_keeps_its_reference_and_its_history(capture, sources, wanted, tmp_path):
    first = capture(sources("as_source"))
    (second,) = modelexport.export(first.path, "tape", tmp_path)
    assert second.path.name == "scorer.tape"
    assert second.parity.verified is True
    assert [(step.verb, step.target) for step in second.lineage] == [("export", "captured"), ("export", "tape")]
    assert second.lineage[0].source["ref"] == sources("as_source")
    with np.load(first.golden) as one, np.load(second.golden) as other:
        assert set(one) == set(other)
        assert all(np.array_equal(one[name], other[name]) for name in one)
    assert np.allclose(answer(second, input=X)["scores"], wanted(), atol=1e-6)


def test_an_artifact_as_source_takes_no_sample(capture, sources, tmp_path):
    first = capture(sources("as_source"))
    np.savez(tmp_path / "s.npz", input=X)
    with pytest.raises(OptionError, match="golden data stands for the model"):
        modelexport.export(first.path, "tape", tmp_path, sample=tmp_path / "s.npz")


# --------------------------------------------------------------------------------------- names


def test_inputs_have_the_names_of_the_forward(capture, sources):
    artifact = capture(sources("two"), inputs=["right:float32[n,2]", "left:float32[n,2]"])
    assert [spec.name for spec in artifact.inputs] == ["right", "left"]
    ones = np.ones((3, 2), np.float32)
    assert (answer(artifact, left=ones, right=3 * ones)["output"] == -5).all()


def test_other_names_are_taken_by_position(capture, sources):
    artifact = capture(sources("two"), inputs=["a:float32[n,2]", "b:float32[n,2]"])
    ones = np.ones((3, 2), np.float32)
    assert (answer(artifact, a=ones, b=3 * ones)["output"] == -5).all()


def test_a_mixture_of_names_is_refused(capture, sources):
    with pytest.raises(InputError, match=r"no parameter 'b'.*left, right"):
        capture(sources("two"), inputs=["left:float32[n,2]", "b:float32[n,2]"])


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
def test_outputs_have_the_models_own_names(sources, tmp_path, factory, names):
    (artifact,) = modelexport.export(sources(factory), "tape", tmp_path, verify=False)
    assert [spec.name for spec in artifact.outputs] == names
    outputs = answer(artifact, x=X[:2])
    assert list(outputs) == names
    assert np.allclose(outputs[names[0]], X[:2].mean(1), atol=1e-6)
    assert np.allclose(outputs[names[1]], X[:2].max(1))
