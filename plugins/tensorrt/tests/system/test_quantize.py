"""Engines in int8, fp8 and int4 from an engine that is there: what reaches them, and what is refused."""

from collections import Counter

import modelexport as mx
import numpy as np
import pytest
from modelexport.errors import ArtifactError, ConversionError, OptionError, ParityError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("quantize")


@pytest.fixture(scope="module")
def engine(nets, folder):
    """A float32 engine of a net for sm89, made once."""
    made = {}

    def get(name):
        if name not in made:
            (made[name],) = mx.export(nets(name), ["tensorrt"], folder, options={"sm": "sm89"})
        return made[name]

    return get


@pytest.fixture(scope="module")
def quantized(engine, folder, data):
    """A quantized copy of it, made once."""
    made = {}

    def get(name, mode, **options):
        key = (name, mode, *options.items())
        if key not in made:
            out = folder / f"{name}.{len(made)}.tensorrt"
            made[key] = mx.quantize(
                engine(name).path, out, options={"mode": mode, **options}, calibration=data(name)
            )
        return made[key]

    return get


# --------------------------------------------------------------------------------------- what is computed in what


@pytest.mark.parametrize("activations", ["fp16", "fp32"])
@pytest.mark.parametrize("mode", ["int8", "fp8"])
def test_every_convolution_and_product_of_the_engine_is_in_8_bits(quantized, kernels, mode, activations):
    made = quantized("cnn", mode, activations=activations)
    assert (made.precision, made.parity.verified) == (mode, "structure")
    heavy = Counter(layer.kind for layer in kernels(made, mode))
    assert (heavy["convolution"], heavy["matrix product"]) == (3, 1)
    rest = {"fp16": "float16", "fp32": "float32"}[activations]
    assert set(made.details["precisions"]) <= {mode, rest, "int64"}
    assert made.details["onnx"]["verified"] is True
    assert made.details["onnx"]["precision"] == mode
    assert made.details["onnx"]["worst"]["case"].startswith(
        "sample"
    )  # real ones, with the float32 model's answers
    assert made.quantization_report().score.drop < 0.002
    assert made.quantization_report().mode == mode


def test_one_engine_is_built(engine, data, folder, monkeypatch):
    from modelexport_tensorrt import build

    source, calls, plan = engine("cnn"), [], build._plan
    monkeypatch.setattr(build, "_plan", lambda asked, log: (calls.append(asked.path.name), plan(asked, log))[1])
    made = mx.quantize(source.path, folder / "once.tensorrt", options={"mode": "int8"}, calibration=data("cnn"))
    assert calls == ["model.onnx"]
    assert [(step.verb, step.target) for step in made.lineage] == [
        ("export", "onnx"), ("export", "tensorrt"), ("quantize", "tensorrt"),
    ]  # fmt: skip


def test_int4_weights_reach_the_engine(quantized, engine, kernels):
    made = quantized("linear", "int4")
    assert len(kernels(made, "int4")) == 3
    assert made.size < 0.5 * engine("linear").size  # 0.4 MB of it are no weights
    assert made.quantization_report().score.score > 0.98
    assert {layer.precision for layer in made.quantization_report().layers} == {"int4 weights in blocks of 128"}
    finer = quantized("linear", "int4", block_size=64)
    assert finer.quantization_report().score.score > 0.98
    assert made.size < finer.size < 1.05 * made.size  # twice the scales


def test_what_was_measured_is_what_went_into_the_engine(quantized, onnx):
    """The ONNX model beside the engine, on ONNX Runtime: it says what the report's score is of."""
    import onnxruntime
    from modelexport.plugins import calls

    made = quantized("cnn", "fp8")
    held = made.stand_in
    assert (held.format, held.entry, held.details["rounded"]) == ("onnx", "source/model.onnx", "float16")
    from dataclasses import replace

    stand_in = replace(made, format=held.format, entry=held.entry, details=held.details)
    x = {"image": np.random.default_rng(5).uniform(-1, 1, (8, 3, 16, 16)).astype("float32")}
    with calls.open_session(stand_in, {}) as session:
        measured = session(x)["scores"]
    settings = onnxruntime.SessionOptions()
    for key, value in held.details["session"].items():
        settings.add_session_config_entry(key, value)
    (went_in,) = onnxruntime.InferenceSession(made.path / held.entry, settings).run(None, x)
    np.testing.assert_allclose(measured, went_in, atol=2e-2 * np.abs(measured).max())
    assert not np.array_equal(measured, went_in)  # the first rounds between operators, ONNX Runtime does not


def test_layers_are_left_until_the_budget_holds(engine, data, folder, kernels):
    made = mx.quantize(
        engine("linear").path, folder / "budget.tensorrt", options={"mode": "int4"},
        calibration=data("linear"), max_drop=0.004,
    )  # fmt: skip
    report = made.quantization_report()
    left = [layer for layer in report.layers if layer.precision == "float16"]
    assert 0 < len(left) < 3
    assert report.score.drop <= 0.004
    assert len(kernels(made, "int4")) == 3 - len(left)
    assert any(trial.simulated for trial in report.trials)
    assert all(trial.latency == {} for trial in report.trials)  # nothing here says how fast a GPU is


def test_a_budget_that_nothing_holds_fails(engine, data, folder):
    with pytest.raises(ParityError, match="--max-drop allows 1e-09"):
        mx.quantize(
            engine("linear").path, folder / "strict.tensorrt", options={"mode": "int8", "explain": "false"},
            calibration=data("linear"), max_drop=1e-9,
        )  # fmt: skip
    assert (folder / "strict.tensorrt.failed").is_dir()


# --------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "options", "real", "kind", "message"),
    [
        ("cnn", {"mode": "int8"}, False, OptionError, "int8 takes the ranges of activations from data"),
        ("cnn", {"mode": "fp8"}, False, OptionError, "fp8 takes the ranges of activations from data"),
        ("cnn", {"mode": "fp8", "calibrator": "entropy"}, True, OptionError, "entropy looks for ranges of 8-bit"),
        ("cnn", {"mode": "int4"}, True, ConversionError, "nothing of the model can be int4 in blocks of 128"),
        ("linear", {"mode": "int4", "block-size": "32"}, True, OptionError, "block-size=32 is not allowed"),
        ("cnn", {"mode": "int8", "exclude": "nothing*"}, True, OptionError, r"exclude=nothing\* matches no layer"),
    ],
)  # fmt: skip
def test_refusals(engine, folder, data, name, options, real, kind, message):
    with pytest.raises(kind, match=message):
        mx.quantize(
            engine(name).path,
            folder / "refused.tensorrt",
            options=options,
            calibration=data(name) if real else None,
        )
    assert not (folder / "refused.tensorrt").exists()


@pytest.mark.parametrize(("mode", "sm", "since"), [("fp8", "sm86", 89), ("int4", "sm75", 80)])
def test_a_gpu_that_lacks_the_type_is_refused_before_the_work(nets, data, folder, monkeypatch, mode, sm, since):
    """sm75 has products in half precision only: an engine of a network without any."""
    from modelexport_tensorrt import quantize

    monkeypatch.setattr(quantize.onnx, "quantized", lambda *_: pytest.fail("it was quantized"))
    net = {"sm86": "linear", "sm75": "relu"}[sm]
    (made,) = mx.export(nets(net), ["tensorrt"], folder, name=f"for-{sm}", options={"sm": sm})
    with pytest.raises(OptionError, match=f"{sm} has no {mode}") as caught:
        mx.quantize(made.path, options={"mode": mode}, calibration=data("linear"))
    assert f"sm{since} and later" in caught.value.hint


def test_what_was_not_kept_cannot_be_quantized(nets, folder):
    options = {"sm": "sm89", "keep-onnx": "false"}
    (made,) = mx.export(nets("cnn"), ["tensorrt"], folder, name="bare", options=options)
    with pytest.raises(ArtifactError, match="without its ONNX model"):
        mx.quantize(made.path, options={"mode": "int4"})


def test_a_model_that_falls_over_its_budget_says_by_how_much(engine, data, folder):
    """Ranges that hold a twentieth of the values: the others saturate."""
    options = {"mode": "fp8", "calibrator": "percentile", "percentile": "5", "explain": "false"}
    with pytest.raises(ConversionError, match=r"in fp8 the ONNX model computes something else: .*cosine 0\."):
        mx.quantize(
            engine("linear").path, folder / "bad.tensorrt", options=options, calibration=data("linear")
        )  # fmt: skip
