"""Quantization from the .tflite file: what each mode writes, what it costs, and what stays in float32."""

import modelexport as mx
import numpy as np
import pytest
from modelexport import api
from modelexport.errors import OptionError


def made(nets, folder, wild=False):
    import torch

    torch.manual_seed(0)
    source = mx.Source(nets.Convolutions(wild).eval(), inputs=("x:float32[batch=1..8,3,16,16]",), name="net")
    (artifact,) = mx.export(source, ["tflite"], folder)
    np.savez(folder / "samples.npz", x=np.random.default_rng(0).standard_normal((24, 3, 16, 16)).astype("f4"))
    return artifact, folder / "samples.npz"


@pytest.fixture(scope="module")
def net(nets, tmp_path_factory):
    pytest.importorskip("ai_edge_quantizer")
    return made(nets, tmp_path_factory.mktemp("net"))


def quantized(net, folder, calibrate=True, **options):
    artifact, samples = net
    keywords = {"calibration": samples} if calibrate else {}
    if "max_drop" in options:
        keywords["max_drop"] = options.pop("max_drop")
    copy = api.quantize(artifact.path, folder / "copy.tflite", options=options, **keywords)
    assert copy.parity.verified is True
    return copy, copy.quantization_report()


@pytest.mark.parametrize(
    ("options", "share", "drop", "precision"),
    [
        ({"mode": "dynamic"}, 0.45, 1e-3, "int8 weights"),
        ({"mode": "weight-only"}, 0.45, 1e-3, "int8 weights"),
        ({"mode": "weight-only", "bits": "4"}, 0.35, 0.05, "int4 weights"),
        ({"mode": "static"}, 0.5, 2e-3, "int8"),
        ({"mode": "float16"}, 0.65, 1e-5, "float16 weights"),
    ],
)
def test_every_mode(options, share, drop, precision, net, tmp_path):
    copy, report = quantized(net, tmp_path, **options)
    assert copy.entry_path.stat().st_size < share * net[0].entry_path.stat().st_size
    assert report.score.drop < drop
    assert {layer.name: layer.precision for layer in report.layers} == dict.fromkeys(
        ("first", "second", "head"), precision
    )
    assert copy.details["resized"] == "batch"


def test_auto_is_static_where_convolutions_are_calibrated(net, tmp_path):
    assert quantized(net, tmp_path)[1].mode == "static"
    assert quantized(net, tmp_path, calibrate=False)[1].mode == "dynamic"


def test_static_without_samples_says_so(net, tmp_path):
    _, report = quantized(net, tmp_path, calibrate=False, mode="static")
    assert "golden cases" in report.warnings[0]
    assert report.calibrated is False


def test_integers_in_and_out_and_floats_in_the_session(net, tmp_path):
    copy, _ = quantized(net, tmp_path, mode="static", io="integer")
    assert copy.details["file"]["input x"].startswith("int8")
    assert copy.details["file"]["output output"].startswith("int8")
    x = np.random.default_rng(3).standard_normal((5, 3, 16, 16)).astype("f4")
    with api.run(copy.path) as one, api.run(net[0].path) as other:
        a, b = one({"x": x})["output"], other({"x": x})["output"]
    assert a.dtype == np.float32
    assert np.abs(a - b).max() < 0.05 * np.abs(b).max()
    with pytest.raises(OptionError, match="io=integer goes with static quantization, not dynamic"):
        quantized(net, tmp_path, calibrate=False, io="integer")


def test_excluded_layers_stay(net, tmp_path):
    _, report = quantized(net, tmp_path, mode="dynamic", exclude="fir*")
    assert {layer.name: layer.precision for layer in report.layers}["first"] == "float32"
    assert {layer.name: layer.note for layer in report.layers}["first"] == "excluded"
    with pytest.raises(OptionError, match="exclude=nothing matches no layer") as caught:
        quantized(net, tmp_path, mode="dynamic", exclude="nothing")
    assert all(layer in caught.value.hint for layer in ("first", "second", "head"))


def test_what_loses_most_stays_in_float_until_the_goal_holds(nets, tmp_path):
    """One channel takes the whole range of an activation: 8 bits of it leave nothing of the others."""
    net = made(nets, tmp_path, wild=True)
    _, plain = quantized(net, tmp_path, mode="static")
    assert plain.score.drop > 0.003
    copy, report = quantized(net, tmp_path, mode="static", max_drop=1e-3)
    assert report.score.drop <= 1e-3
    (kept,) = (trial for trial in report.trials if trial.verdict == "kept")
    assert kept.drop == pytest.approx(report.score.drop, abs=1e-6)
    assert 0 < len(kept.left) < 5
    assert kept.size == copy.entry_path.stat().st_size
    assert {layer.precision for layer in report.layers} >= {"int8"}
    assert copy.entry_path.stat().st_size < net[0].entry_path.stat().st_size


@pytest.fixture(scope="module")
def signatures(nets, tmp_path_factory):
    """A net with a signature for each of three sizes, and samples of one of them."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("ai_edge_quantizer")
    folder = tmp_path_factory.mktemp("words")
    torch.manual_seed(0)
    source = mx.Source(nets.Words().eval(), inputs=("ids:int64[1,seq=4..12/4]=0..49",), name="words")
    (artifact,) = api.export(source, ["tflite"], folder)
    rows = np.random.default_rng(0).integers(0, 50, (16, 8))
    np.savez(folder / "samples.npz", ids=rows)
    return artifact, folder / "samples.npz"


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"mode": "dynamic"}, set()),
        ({"mode": "static"}, set()),
        ({"mode": "dynamic", "exclude": ["first*"]}, {"first"}),
        ({"mode": "static", "max_drop": 0.5}, set()),
    ],
)
def test_every_signature_is_quantized_on_samples_of_one(options, left, signatures, tmp_path):
    artifact, _ = signatures
    copy, report = quantized(signatures, tmp_path, **options)
    assert {layer.name for layer in report.layers if layer.precision == "float32"} == left
    with api.run(artifact.path) as plain, api.run(copy.path) as small:
        for seq in (4, 8, 12):
            inputs = {"ids": np.arange(seq)[None] * 4}
            ((expected,), (found,)) = plain(inputs).values(), small(inputs).values()
            assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
            assert not np.array_equal(found, expected)
