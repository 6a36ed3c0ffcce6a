"""Weights in fewer bits, and 8-bit activations: what is written, what it computes, what is refused."""

import numpy as np
import pytest
from modelexport import api
from modelexport.errors import OptionError, ParityError


@pytest.fixture(scope="module")
def wide(export, nets, tmp_path_factory):
    return export(nets.Wide, tmp_path_factory.mktemp("wide"), "x:float32[batch=1..4,64]")


@pytest.mark.parametrize(
    ("options", "precision", "operator", "ratio"),
    [
        ({"mode": "linear", "bits": "8"}, "int8", "constexpr_blockwise_shift_scale", 0.35),
        ({"mode": "linear", "bits": "4"}, "int4", "constexpr_blockwise_shift_scale", 0.30),
        ({"mode": "palettize", "bits": "6"}, "int8", "constexpr_lut_to_dense", 0.32),
        ({"mode": "palettize", "bits": "4", "algorithm": "uniform"}, "int4", "constexpr_lut_to_dense", 0.25),
        ({"mode": "prune", "sparsity": "0.3"}, "int8", "constexpr_sparse_to_dense", 0.85),
    ],
)
def test_weights_in_fewer_bits(options, precision, operator, ratio, wide, quantize, tmp_path):
    result = quantize(wide, tmp_path, **options)
    assert result.precision == precision
    assert result.parity.verified is True
    assert result.details["operators"][operator] == 2  # the last layer is smaller than min-size
    report = result.quantization_report()
    assert report.mode == options["mode"]
    assert report.score.score > (0.98 if precision == "int8" and options["mode"] != "prune" else 0.94)
    assert all(layer.bytes_saved > 0 for layer in report.layers)
    saved = sum(layer.bytes_saved for layer in report.layers)
    weights = 4 * (64 * 128 + 128 * 64)
    assert (weights - saved) / weights < ratio
    data = [artifact.entry_path / "Data/com.apple.CoreML/weights/weight.bin" for artifact in (wide, result)]
    assert data[1].stat().st_size < ratio * 1.2 * data[0].stat().st_size


def test_a_reader_writes_nothing_into_the_artifact(wide, quantize, make, tmp_path):
    """coremltools would write Manifest.json anew whenever it looks into a package."""
    places = [wide.path, *wide.path.rglob("*")]
    before = {place: (place.stat().st_ino, place.stat().st_mtime_ns) for place in places}
    quantize(wide, tmp_path, mode="linear")
    with api.run(wide.path) as session:
        session({"x": np.zeros((1, 64), np.float32)})
    make(wide.entry_path, tmp_path / "again", ["x:float32[1,64]"], verify=False)
    assert {place: (place.stat().st_ino, place.stat().st_mtime_ns) for place in places} == before


def test_k_means_finds_scikit_learn_though_coremltools_was_imported_without(wide, quantize, tmp_path):
    """The guarded import hides scikit-learn from coremltools alone, and only while it lasts."""
    pytest.importorskip("sklearn")
    result = quantize(wide, tmp_path, mode="palettize", bits=8, group_size=0)
    assert result.parity.verified is True
    assert result.quantization_report().settings["algorithm"] == "kmeans"
    assert result.details["operators"]["constexpr_lut_to_dense"] == 2


def test_a_constant_that_is_excluded_stays_and_is_told(wide, quantize, tmp_path):
    every = [layer.name for layer in quantize(wide, tmp_path / "all").quantization_report().layers]
    result = quantize(wide, tmp_path / "some", exclude=every[0])
    assert result.details["operators"]["constexpr_blockwise_shift_scale"] == len(every) - 1
    assert result.notes == (f"{every[0]} stays in float32: excluded",)


def test_a_pattern_that_matches_nothing_is_refused(wide, quantize, tmp_path):
    with pytest.raises(OptionError, match=r"exclude=head\* matches no layer") as caught:
        quantize(wide, tmp_path, exclude="head*")
    assert caught.value.hint.startswith("one of addmm_1_bias_0, ")


def test_constants_with_infinities_stay_as_they_are(export, nets, quantize, tmp_path):
    artifact = export(nets.Masked, tmp_path, "x:float32[2,64,64]")
    result = quantize(artifact, tmp_path, mode="palettize", bits=4)
    assert result.parity.verified is True
    notes = {layer.note for layer in result.quantization_report().layers}
    assert "it holds infinities" in notes


def test_what_older_systems_take(export, nets, quantize, tmp_path):
    artifact = export(nets.Wide, tmp_path, "x:float32[2,64]", deployment_target="iOS16")
    with pytest.raises(OptionError, match="4-bit integers need iOS 18"):
        quantize(artifact, tmp_path, bits=4)
    with pytest.raises(OptionError, match="8-bit activations need iOS 17"):
        quantize(artifact, tmp_path, mode="activations")
    older = quantize(artifact, tmp_path / "eight", bits=8)
    assert older.details["operators"]["constexpr_affine_dequantize"] == 2
    assert all(layer.bytes_saved > 0 for layer in older.quantization_report().layers)
    assert quantize(artifact, tmp_path / "six", mode="palettize", bits=6).parity.verified is True
    assert quantize(artifact, tmp_path / "sparse", mode="prune", sparsity=0.3).parity.verified is True


def test_a_model_that_loses_too_much_fails_the_gate(wide, tmp_path):
    options = {"mode": "palettize", "bits": "1", "algorithm": "uniform"}
    with pytest.raises(ParityError, match="coreml does not compute what the source computes"):
        api.quantize(wide.path, tmp_path / "small.coreml", options=options)


# --------------------------------------------------------------------------------------- activations


@pytest.fixture(scope="module")
def branches(export, nets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("branches")
    return export(nets.Branches, folder, "x:float32[batch=1..8,3,8,8]=0..1", compute_precision="float16")


def test_activations_in_8_bits(branches, quantize, tmp_path):
    """Ranges are those of the calibration data, scales are made of them, and the gate passes the result."""
    from modelexport_coreml import files

    draw = np.random.default_rng(0)
    images = draw.uniform(0, 1, (64, 3, 8, 8)).astype(np.float32)
    images[40, 1, 2, 3] = 0.9999  # ranges are over all samples, not those of the last one
    np.savez(tmp_path / "images.npz", x=images)
    result = quantize(branches, tmp_path, mode="activations", calibration=tmp_path / "images.npz")
    assert result.parity.verified is True
    assert result.precision == "int8"
    operators = result.details["operators"]
    assert operators["constexpr_blockwise_shift_scale"] == 1  # of the large convolution; the others are below 2048
    assert operators["quantize"] >= 6
    assert operators["dequantize"] >= operators["quantize"]
    report = result.quantization_report()
    assert report.calibrated
    assert report.score.score > 0.999
    layers = {layer.kind: layer for layer in report.layers}
    assert {layer.precision for layer in report.layers} == {"int8"}
    assert set(layers) == {"conv", "add", "max_pool", "linear"}
    stem = next(layer for layer in report.layers if layer.activation_range[1] <= 1)
    assert stem.activation_range[1] > 0.999
    scales = {
        float(op.inputs["scale"].val)
        for op in files.operations(files.load_program(result.entry_path))
        if op.op_type == "quantize"
    }
    assert any(scale == pytest.approx(stem.activation_range[1] / 127, rel=2e-3) for scale in scales)


def test_activations_without_data_are_said_to_be_guesses(branches, quantize, tmp_path):
    """A pattern may match an operator as well as a constant."""
    result = quantize(branches, tmp_path, mode="activations", min_size=1, exclude="max_pool*")
    report = result.quantization_report()
    assert not report.calibrated
    assert "generated inputs" in report.warnings[0]
    kept = {layer.kind: (layer.precision, layer.note) for layer in report.layers if layer.note == "excluded"}
    assert kept == {"max_pool": ("float16", "excluded")}
    assert result.details["operators"]["constexpr_blockwise_shift_scale"] == 3


def test_activations_want_half_precision(wide, quantize, tmp_path):
    with pytest.raises(OptionError, match="in float16"):
        quantize(wide, tmp_path, mode="activations")


def test_activations_beyond_half_precision_are_left(export, nets, quantize, tmp_path):
    inputs = ("x:float32[2,64]", "far:float32[2,64]=0..1")
    artifact = export(nets.Far, tmp_path, *inputs, compute_precision="float16")
    result = quantize(artifact, tmp_path, mode="activations")
    assert result.parity.verified is True
    notes = {layer.kind: layer.note for layer in result.quantization_report().layers}
    assert notes["add"] == "its values are beyond half precision"


def test_a_terminal_is_told_how_far_it_is(branches, tmp_path):
    events, options = [], {"mode": "activations", "min-size": "1"}
    api.quantize(
        branches.path, tmp_path / "small.coreml", options=options, verify=False,
        progress=lambda event: events.append(str(event)),
    )  # fmt: skip
    counted = [event for event in events if event.startswith("measure the ranges of activations: ")]
    assert counted[0].startswith("measure the ranges of activations: 0 of ")
    assert len(counted) > 3
    stages = [event for event in events if event.endswith(("the activations", "the weights"))]
    assert stages == ["quantize the activations", "compress the weights"]
