"""Packages by others as sources."""

import numpy as np
import pytest
from modelexport import api
from modelexport.errors import OptionError, SourceError

SUMS = ("x:float32[rows=2..6,4]", "y:float32[rows=2..6,4]")


def test_a_package_is_copied_byte_for_byte_and_computes_as_it_did(sums, make, files_in, tmp_path):
    artifact = make(sums, tmp_path, SUMS)
    assert files_in(artifact.entry_path) == files_in(sums)
    assert artifact.parity.verified is True
    assert [spec.name for spec in artifact.outputs] == ["total", "scaled"]
    assert artifact.details["deployment_target"] == "iOS16"
    assert len(artifact.lineage[-1].source["fingerprint"]) == 64
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(2, 5, 4)).astype(np.float32)
    with api.run(artifact.path) as session:
        outputs = session({"x": x, "y": y})
    np.testing.assert_allclose(outputs["total"], x.sum(1) + 2 * y.sum(1), atol=1e-5)
    np.testing.assert_allclose(outputs["scaled"], x.mean() * y, atol=1e-6)


def test_dims_are_read_from_the_package(make, trace, nets, ct, tmp_path):
    ranged = ct.TensorType("x", ct.Shape([ct.RangeDim(1, 7, default=1), 4]))
    steps = ct.TensorType("x", ct.EnumeratedShapes([(size, 4) for size in (32, 16, 48)]))
    uneven = ct.TensorType("x", ct.EnumeratedShapes([(size, 4) for size in (1, 2, 5)]))
    wanted = {"ranged": (ranged, "x:float32[x_dim0=1..7,4]"), "steps": (steps, "x:float32[x_dim0=16..48/16,4]")}
    for name, (kind, spec) in wanted.items():
        package = trace(nets.Narrow, tmp_path / f"{name}.mlpackage", kind)
        artifact = make(package, tmp_path / "build", verify=False)
        assert [str(spec) for spec in artifact.inputs] == [spec]
    path = trace(nets.Narrow, tmp_path / "uneven.mlpackage", uneven)
    with pytest.raises(SourceError, match=r"no dims describe: \[1, 4\], \[2, 4\], \[5, 4\].*") as caught:
        make(path, tmp_path / "build")
    assert "--input" in caught.value.hint
    artifact = make(path, tmp_path / "build", ["x:float32[5,4]"])
    assert artifact.parity.verified is True


@pytest.mark.parametrize("inputs", [["x:int64[2,4]", "y:float32[2,4]"], ["x:float32[2,4]"]])
def test_inputs_that_are_declared_as_others_than_the_packages_are_refused(inputs, sums, make, tmp_path):
    with pytest.raises(SourceError, match="takes other inputs than declared") as caught:
        make(sums, tmp_path, inputs)
    assert caught.value.hint == "it takes x:float32[x_dim0,x_dim1], y:float32[y_dim0,y_dim1]"


def test_an_input_under_another_name_is_refused(sums, make, tmp_path):
    with pytest.raises(SourceError, match=r"the program has no input 'z'.*it has x, y"):
        make(sums, tmp_path, ["x:float32[2,4]", "z:float32[2,4]"])


def test_a_classifier_of_images_takes_pixels_and_gives_probabilities(shades, make, tmp_path):
    artifact = make(shades, tmp_path)
    assert artifact.parity.verified is True
    assert [str(spec) for spec in artifact.inputs] == ["image:float32[1,3,6,8]=0..255"]
    (output,) = artifact.outputs
    assert (output.name, output.shape) == ("shade_probs", (1, 4))
    pixels = np.zeros((1, 3, 6, 8), np.float32)
    pixels[:, 1] = 204
    with api.run(artifact.path) as session:
        probabilities = session({"image": pixels})["shade_probs"]
    means = np.array([-0.5, 0.8, 0.5, 0.8 / 3])
    np.testing.assert_allclose(probabilities[0], np.exp(means) / np.exp(means).sum(), atol=1e-5)


def test_what_a_session_can_not_give_is_refused(make, trace, nets, ct, tmp_path):
    (tmp_path / "empty.mlpackage").mkdir()
    with pytest.raises(SourceError, match="damaged"):
        make(tmp_path / "empty.mlpackage", tmp_path)
    images = [ct.ImageType(name, (1, 3, 6, 8)) for name in ("left", "right")]
    stereo = trace(nets.Stereo, tmp_path / "stereo.mlpackage", *images)
    with pytest.raises(SourceError, match="takes 2 images"):
        make(stereo, tmp_path)
    painted = trace(nets.Painter, tmp_path / "painter.mlpackage", images[0], outputs=[ct.ImageType("painted")])
    with pytest.raises(SourceError, match=r"output 'painted' of .* is an image, no array"):
        make(painted, tmp_path)


def test_a_package_of_another_kind_is_refused(make, coremltools, tmp_path):
    """Neural networks can lie in packages as well."""
    from modelexport_coreml.backend import quiet

    kind = coremltools("models.datatypes").Array(3)
    builder = coremltools("models.neural_network").NeuralNetworkBuilder([("x", kind)], [("y", kind)])
    builder.add_activation("relu", "RELU", "x", "y")
    with quiet():
        model = coremltools().models.MLModel(builder.spec, skip_model_load=True)
        model.save(str(tmp_path / "net.mlpackage"))
    with pytest.raises(SourceError, match="holds a neuralNetwork, not an ML Program"):
        make(tmp_path / "net.mlpackage", tmp_path)


def test_a_copy_takes_no_options_of_a_conversion(sums, make, tmp_path):
    with pytest.raises(OptionError, match="compute-precision can't be changed"):
        make(sums, tmp_path, ["x:float32[2,4]", "y:float32[2,4]"], compute_precision="float16")
