"""Packages by others as sources, and the Swift that runs a package."""

import importlib.util
import os
from pathlib import Path

import modelexport as mx
import numpy as np
import pytest

ct = pytest.importorskip("coremltools")
torch = pytest.importorskip("torch")

from modelexport import api  # noqa: E402
from modelexport.contract import (  # noqa: E402
    LoadOptions,
)
from modelexport.errors import OptionError, SourceError  # noqa: E402
from modelexport.gate import worker  # noqa: E402
from modelexport.model import resolve  # noqa: E402
from modelexport.plugins import (  # noqa: E402
    calls,
    manager,
)
from modelexport.work import convert, prepare  # noqa: E402
from modelexport.work.requests import Verification  # noqa: E402
from modelexport_coreml import package  # noqa: E402
from torch import nn  # noqa: E402


def trace(net, path, *inputs, **chosen):
    """As most packages are made: from a traced module."""
    shapes = [kind.shape.default if hasattr(kind.shape, "default") else tuple(kind.shape.shape) for kind in inputs]
    traced = torch.jit.trace(net.eval(), tuple(torch.zeros(tuple(shape)) for shape in shapes))
    with package.quiet():
        model = ct.convert(
            traced, inputs=list(inputs), minimum_deployment_target=ct.target.iOS16, skip_model_load=True,
            compute_precision=ct.precision.FLOAT32, **chosen,
        )  # fmt: skip
        model.save(str(path))
    return path


GATES = []


@pytest.fixture(scope="module", autouse=True)
def gate():
    """One fresh process for every gate of this file: each of its own would import coremltools for seconds."""
    with worker.start("verifying coreml") as child:
        GATES.append(child)
        yield
    GATES.clear()


def adopt(source, folder, inputs=(), verify=True, **chosen):
    """As `mx.export`, with the file's own process for the gate."""
    ref = source if isinstance(source, mx.Source) else str(source)
    verification = Verification(verify, child=GATES[0])
    job = prepare.prepare(resolve.resolve(ref, LoadOptions(inputs=tuple(inputs))), verification)
    folder.mkdir(exist_ok=True)
    return convert.make(job, "coreml", folder / f"{job.source.name}.coreml", verification, chosen)


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def folder_of(name):
    spec = importlib.util.find_spec(name)
    if spec is None:
        if os.environ.get("MX_REQUIRE"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return Path(spec.submodule_search_locations[0])


# --------------------------------------------------------------------------------------- sources


class Sums(nn.Module):
    def forward(self, x, y):
        return x.sum(1) + 2 * y.sum(1), x.mean() * y


@pytest.fixture(scope="module")
def sums(tmp_path_factory):
    """Two inputs that share a range."""
    folder = tmp_path_factory.mktemp("sums")
    inputs = [ct.TensorType(name, ct.Shape([ct.RangeDim(2, 6, default=2), 4])) for name in ("x", "y")]
    return trace(
        Sums(), folder / "sums.mlpackage", *inputs, outputs=[ct.TensorType("total"), ct.TensorType("scaled")]
    )


def test_a_package_is_copied_byte_for_byte_and_computes_as_it_did(sums, tmp_path):
    dims = ["x:float32[rows=2..6,4]", "y:float32[rows=2..6,4]"]
    artifact = adopt(sums, tmp_path, inputs=dims)
    assert files(artifact.entry_path) == files(sums)
    assert artifact.parity.verified is True
    assert [spec.name for spec in artifact.outputs] == ["total", "scaled"]
    assert artifact.details["deployment_target"] == "iOS16"
    assert len(artifact.lineage[-1].source["fingerprint"]) == 64
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(2, 5, 4)).astype(np.float32)
    with api.run(artifact.path) as session:
        found = session({"x": x, "y": y})
    np.testing.assert_allclose(found["total"], x.sum(1) + 2 * y.sum(1), atol=1e-5)
    np.testing.assert_allclose(found["scaled"], x.mean() * y, atol=1e-6)


def test_a_changed_package_has_another_fingerprint(tmp_path):
    from modelexport.store.digests import tree_sha256

    path = tmp_path / "one.mlpackage"
    (path / "Data").mkdir(parents=True)
    (path / "Data" / "weight.bin").write_bytes(b"12")
    before = tree_sha256(path)
    (path / "Data" / "weight.bin").write_bytes(b"13")
    assert tree_sha256(path) != before
    (path / "Data" / "weight.bin").rename(path / "Data" / "weights.bin")
    (path / "Data" / "weights.bin").write_bytes(b"12")
    assert tree_sha256(path) != before


def test_dims_are_read_from_the_package(tmp_path):
    net = nn.Linear(4, 2)
    ranged = ct.TensorType("x", ct.Shape([ct.RangeDim(1, 7, default=1), 4]))
    steps = ct.TensorType("x", ct.EnumeratedShapes([(size, 4) for size in (32, 16, 48)]))
    uneven = ct.TensorType("x", ct.EnumeratedShapes([(size, 4) for size in (1, 2, 5)]))
    wanted = {"ranged": (ranged, "x:float32[x_dim0=1..7,4]"), "steps": (steps, "x:float32[x_dim0=16..48/16,4]")}
    for name, (kind, declared) in wanted.items():
        artifact = adopt(trace(net, tmp_path / f"{name}.mlpackage", kind), tmp_path / "build", verify=False)
        assert [str(spec) for spec in artifact.inputs] == [declared]
    path = trace(net, tmp_path / "uneven.mlpackage", uneven)
    with pytest.raises(SourceError, match=r"no dims describe: \[1, 4\], \[2, 4\], \[5, 4\].*") as caught:
        adopt(path, tmp_path / "build")
    assert "--input" in caught.value.hint
    artifact = adopt(path, tmp_path / "build", inputs=["x:float32[5,4]"])
    assert artifact.parity.verified is True


class Shades(nn.Module):
    """Probabilities of four classes from the means of an image's channels."""

    def forward(self, image):
        means = image.mean((2, 3))
        return torch.cat([means, means.sum(1, keepdim=True) / 3], 1).softmax(1)


@pytest.fixture(scope="module")
def shades(tmp_path_factory):
    image = ct.ImageType(
        "image", (1, 3, 6, 8), scale=1 / 255, bias=[-0.5, 0.0, 0.5], color_layout=ct.colorlayout.RGB
    )
    labels = ct.ClassifierConfig(["red", "green", "blue", "gray"], predicted_feature_name="shade")
    path = tmp_path_factory.mktemp("shades") / "shades.mlpackage"
    return trace(Shades(), path, image, classifier_config=labels)


def test_a_classifier_of_images_takes_pixels_and_gives_probabilities(shades, tmp_path):
    artifact = adopt(shades, tmp_path)
    assert artifact.parity.verified is True
    assert [str(spec) for spec in artifact.inputs] == ["image:float32[1,3,6,8]=0..255"]
    (output,) = artifact.outputs
    assert (output.name, output.shape) == ("shade_probs", (1, 4))
    pixels = np.zeros((1, 3, 6, 8), np.float32)
    pixels[:, 1] = 204
    with api.run(artifact.path) as session:
        found = session({"image": pixels})["shade_probs"]
    means = np.array([-0.5, 0.8, 0.5, 0.8 / 3])
    np.testing.assert_allclose(found[0], np.exp(means) / np.exp(means).sum(), atol=1e-5)


def test_what_a_session_can_not_give_is_refused(tmp_path):
    for name in ("old.mlmodel", "built.mlmodelc"):
        (tmp_path / name).mkdir()
    with pytest.raises(SourceError, match="from before ML Programs") as caught:
        adopt(tmp_path / "old.mlmodel", tmp_path)
    assert 'convert_to="mlprogram"' in caught.value.hint
    with pytest.raises(SourceError, match="compiled for the device"):
        adopt(tmp_path / "built.mlmodelc", tmp_path)
    with pytest.raises(SourceError, match="no package"):
        adopt(tmp_path / "none.mlpackage", tmp_path)
    (tmp_path / "empty.mlpackage").mkdir()
    with pytest.raises(SourceError, match="damaged"):
        adopt(tmp_path / "empty.mlpackage", tmp_path)
    images = [ct.ImageType(name, (1, 3, 6, 8)) for name in ("left", "right")]
    stereo = trace(Stereo(), tmp_path / "stereo.mlpackage", *images)
    with pytest.raises(SourceError, match="takes 2 images"):
        adopt(stereo, tmp_path)
    painted = trace(Painter(), tmp_path / "painter.mlpackage", images[0], outputs=[ct.ImageType("painted")])
    with pytest.raises(SourceError, match=r"output 'painted' of .* is a image, no array"):
        adopt(painted, tmp_path)


class Stereo(nn.Module):
    def forward(self, left, right):
        return left - right


class Painter(nn.Module):
    def forward(self, left):
        return (255 - left).clamp(0, 255)


def test_a_package_of_another_kind_is_refused(tmp_path):
    """Neural networks can lie in packages as well."""
    from coremltools.models import datatypes, neural_network

    kind = datatypes.Array(3)
    builder = neural_network.NeuralNetworkBuilder([("x", kind)], [("y", kind)])
    builder.add_activation("relu", "RELU", "x", "y")
    with package.quiet():
        ct.models.MLModel(builder.spec, skip_model_load=True).save(str(tmp_path / "net.mlpackage"))
    with pytest.raises(SourceError, match="holds a neuralNetwork, not an ML Program"):
        adopt(tmp_path / "net.mlpackage", tmp_path)


def test_a_copy_takes_no_options_of_a_conversion(sums, tmp_path):
    with pytest.raises(OptionError, match="compute-precision can't be changed"):
        adopt(sums, tmp_path, ["x:float32[2,4]", "y:float32[2,4]"], compute_precision="float16")


@pytest.mark.slow
def test_a_package_by_others_gives_what_their_onnx_gives(tmp_path):
    """basic-pitch ships one net in several formats, converted by its authors."""
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = folder_of("basic_pitch").joinpath("saved_models", "icassp_2022")
    artifact = adopt(folder / "nmp.mlpackage", tmp_path)
    assert artifact.parity.verified is True
    assert files(artifact.entry_path) == files(folder / "nmp.mlpackage")
    seconds = np.arange(43844) / 22050
    sound = sum(np.sin(2 * np.pi * pitch * seconds) for pitch in (261.63, 329.63, 392.0))
    x = (sound / 3 * 0.8).astype(np.float32)[None, :, None]
    with api.run(artifact.path) as session:
        found = session({artifact.inputs[0].name: x})
    session = onnxruntime.InferenceSession(str(folder / "nmp.onnx"))
    wanted = session.run(None, {session.get_inputs()[0].name: x})
    assert len(found) == len(wanted) == 3
    for array in found.values():
        gaps = [float(abs(array - want).max()) for want in wanted if want.shape == array.shape]
        assert min(gaps) < 2e-3


# --------------------------------------------------------------------------------------- snippets


def swift_of(artifact):
    (text,) = calls.call(manager.target("coreml"), "snippet", artifact=artifact, language="swift").values()
    return text


def parsed(text):
    """Fails where the text is no Swift."""
    tree_sitter = pytest.importorskip("tree_sitter")
    grammar = pytest.importorskip("tree_sitter_swift")
    tree = tree_sitter.Parser(tree_sitter.Language(grammar.language())).parse(text.encode())
    wrong = [node for node in nodes(tree.root_node) if node.is_error or node.is_missing]
    assert wrong == [], f"line {wrong[0].start_point[0] + 1}: {wrong[0].text.decode()}"
    return tree.root_node


def nodes(node):
    yield node
    for child in node.children:
        yield from nodes(child)


def test_swift_that_is_none_is_noticed():
    with pytest.raises(AssertionError, match="line 1"):
        parsed("let x = = 1")


def test_swift_names_every_array(sums, tmp_path):
    dims = ["x:float32[rows=2..6,4]", "y:float32[rows=2..6,4]"]
    artifact = adopt(sums, tmp_path, dims, verify=False)
    text = swift_of(artifact)
    parsed(text)
    assert '"x": array([2, 4], .float32),  // rows=2..6' in text
    assert 'show("total", answer.featureValue(for: "total")!.multiArrayValue!)' in text
    assert "CVPixelBuffer?" not in text
    assert "./main ../../model.mlpackage" in text


def test_swift_of_a_classifier_of_images(shades, tmp_path):
    artifact = adopt(shades, tmp_path, verify=False, compute_units="cpu-and-ne")
    text = swift_of(artifact)
    parsed(text)
    assert '"image": image(width: 8, height: 6, format: kCVPixelFormatType_32BGRA),' in text
    assert 'print(answer.featureValue(for: "shade")!.stringValue)' in text
    assert 'featureValue(for: "shade_probs")!.dictionaryValue' in text
    assert "configuration.computeUnits = .cpuAndNeuralEngine" in text


def test_swift_of_a_model_with_a_state_and_of_types(tmp_path):
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("total", torch.zeros(3))

        def forward(self, ids):
            self.total.add_(ids.sum(0).float())
            return {"up.sum": ids + 1, "mean": self.total * 1.5}

    source = mx.Source(Counter(), inputs=("ids:int64[2,3]=0..9",), name="net")
    artifact = adopt(source, tmp_path, verify=False, compute_precision="float16")
    text = swift_of(artifact)
    parsed(text)
    assert '"ids": array([2, 3], .int32),' in text
    assert 'featureValue(for: "up_sum")' in text
    assert "model.prediction(from: inputs, using: state)" in text
