"""Quantized ExecuTorch programs: how close they stay, what is left in float32, and why."""

import modelexport
import numpy as np
import pytest
from modelexport import Source, api
from modelexport.errors import OptionError


@pytest.fixture(scope="module")
def cnn(make, nets):
    return make(nets.DeepCnn(), "image:float32[batch=1..8,3,16,16]")


@pytest.fixture(scope="module")
def words(make, nets):
    return make(nets.Words(), "ids:int64[batch=1..4,length=2..16]=0..49")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(path, image=np.random.default_rng(0).standard_normal((64, 3, 16, 16)).astype(np.float32))
    return path


@pytest.fixture(scope="module")
def static(cnn, images, tmp_path_factory):
    """The net in 8 bits, calibrated, and what was told meanwhile."""
    events = []
    artifact = modelexport.quantize(
        cnn.path,
        tmp_path_factory.mktemp("static") / "out",
        calibration=images,
        progress=lambda event: events.append(str(event)),
    )
    return artifact, events


def report(artifact):
    return artifact.quantization_report()


def precisions(artifact):
    return {layer.name: layer.precision for layer in report(artifact).layers}


def test_static_on_calibration_data(cnn, static):
    artifact, _ = static
    quantization = report(artifact)
    assert (quantization.mode, quantization.calibrated, artifact.precision) == ("static", True, "int8")
    assert set(precisions(artifact).values()) == {"int8"} and len(quantization.layers) == 5
    assert artifact.details["delegated"]["share"] > 0.9
    assert quantization.score.drop < 0.005  # 0.03 where ReLU6 is rounded before it clamps
    assert artifact.entry_path.stat().st_size < 0.6 * cnn.entry_path.stat().st_size


def test_it_says_what_it_does(static):
    _, events = static
    for line in (
        "quantize in 8 bits, static",
        "calibrate: 6 of 6",
        "capture the quantized program",
        "lower for xnnpack",
        "plan the memory",
    ):
        assert line in events


def test_without_data_the_report_warns(cnn, tmp_path):
    artifact = modelexport.quantize(cnn.path, tmp_path / "out", verify=False)
    assert not report(artifact).calibrated
    assert any("--calibration" in line for line in report(artifact).warnings)


def test_layers_can_be_left_out(cnn, images, tmp_path):
    artifact = modelexport.quantize(
        cnn.path, tmp_path / "out", calibration=images, options={"exclude": "body.0,he*"}, verify=False
    )
    left = {layer.name: layer.note for layer in report(artifact).layers if layer.precision == "float32"}
    assert left == {"body.0": "excluded", "head": "excluded"}
    assert "body.0 stays in float32: excluded" in artifact.notes


def test_a_pattern_that_matches_no_layer_is_refused(cnn, tmp_path):
    with pytest.raises(OptionError, match=r"exclude=body\.1\.weight matches no layer.*body\.0"):
        modelexport.quantize(cnn.path, tmp_path / "out", options={"exclude": "body.1.weight"}, verify=False)


def test_layers_are_left_until_the_goal_holds(cnn, images, static, tmp_path):
    budget = report(static[0]).score.drop / 2
    artifact = modelexport.quantize(cnn.path, tmp_path / "out", calibration=images, max_drop=budget, verify=False)
    quantization = report(artifact)
    assert quantization.score.drop <= budget
    kept = [trial for trial in quantization.trials if trial.verdict == "kept"]
    left = {layer.name for layer in quantization.layers if layer.note == "it suffers most: it is left out"}
    assert kept and all(set(trial.left) == left for trial in kept) and left
    assert "float32" in precisions(artifact).values() and "int8" in precisions(artifact).values()


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_positions_stay_whole_numbers(words, tmp_path, mode):
    """XNNPACK's quantizer makes floats of the numbers added to them, which no table can be asked for."""
    artifact = modelexport.quantize(words.path, tmp_path / "out", options={"mode": mode})
    kinds = {layer.name: (layer.kind, layer.precision) for layer in report(artifact).layers}
    assert kinds["head"] == ("linear", "int8")
    assert kinds["words"] == ("embedding", "float32")
    assert artifact.parity.verified is True


def test_auto_is_dynamic_for_a_transformer(words, tmp_path):
    assert report(modelexport.quantize(words.path, tmp_path / "out", verify=False)).mode == "dynamic"


def test_four_bits_in_groups(words, tmp_path):
    artifact = modelexport.quantize(words.path, tmp_path / "out", options={"mode": "dynamic", "bits": "4"})
    assert artifact.precision == "int4"
    assert precisions(artifact)["head"] == "int4 weights"
    assert artifact.parity.verified is True
    with api.run(artifact.path) as session:
        assert session({"ids": np.ones((4, 16), np.int64)})["output"].shape == (4, 16, 8)


def test_it_takes_the_captured_program(torch, tmp_path):
    source = Source(torch.nn.Linear(3, 2), inputs=("input:float32[2,3]",))
    (artifact,) = modelexport.export(
        source, "executorch", tmp_path, options={"keep-program": "false"}, verify=False
    )
    assert not (artifact.path / "source").exists()
    with pytest.raises(OptionError, match="captured program") as error:
        modelexport.quantize(artifact.path, tmp_path / "out")
    assert "keep-program" in error.value.hint
