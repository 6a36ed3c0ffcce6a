"""mx export --precision: the ONNX model is made in the precision, and one engine is built from it."""

from collections import Counter

import modelexport as mx
import pytest
from modelexport.contract import by_kind
from modelexport.errors import ArtifactError, OptionError, ParityError
from modelexport.toolkit import latency

NEEDS_DATA = ("int8", "fp8")


@pytest.fixture
def builds(trt, monkeypatch):
    """The files that TensorRT's builder was called with."""
    from modelexport_tensorrt import build

    calls, plan = [], build._plan
    monkeypatch.setattr(build, "_plan", lambda asked, log: (calls.append(asked.path), plan(asked, log))[1])
    return calls


@pytest.fixture
def quantizations(monkeypatch):
    """The presets that the ONNX plugin quantized for."""
    from modelexport_onnx import quantize

    calls, own = [], quantize.quantize

    def counted(artifact, out, options, *more):
        calls.append((options.preset, options.mode))
        return own(artifact, out, options, *more)

    monkeypatch.setattr(quantize, "quantize", counted)
    return calls


@pytest.fixture
def export(nets, data, tmp_path):
    def run(name, precision, targets="tensorrt", **more):
        real = data(name) if precision in NEEDS_DATA else None
        return mx.export(nets(name), targets, tmp_path, precision=precision, calibration=real, **more)

    return run


STEPS = [("export", "onnx"), ("quantize", "onnx"), ("export", "tensorrt")]


@pytest.mark.parametrize(
    ("name", "precision", "dtype", "kinds"),
    [
        ("cnn", "int8", "int8", {"convolution": 3, "matrix product": 1}),
        ("cnn", "fp8", "fp8", {"convolution": 3, "matrix product": 1}),
        ("linear", "int4", "int4", {"fused kernel": 3}),
        ("cnn", "fp16", "float16", {"convolution": 3}),
        ("cnn", "bf16", "bfloat16", {"convolution": 3}),
    ],
)
def test_one_engine_is_built_and_nothing_is_made_twice(
    export, builds, quantizations, kernels, tmp_path, name, precision, dtype, kinds
):
    (made,) = export(name, precision, options={"sm": "sm89"})
    assert (len(builds), len(quantizations)) == (1, 1)
    assert [(step.verb, step.target) for step in made.lineage] == STEPS
    assert (made.precision, made.parity.verified) == (dtype, "structure")
    heavy = Counter(layer.kind for layer in kernels(made, dtype))
    assert {kind: heavy[kind] for kind in kinds} == kinds
    rest = {"float16"} if precision in NEEDS_DATA else {"float16", "float32"}
    assert set(made.details["precisions"]) <= {dtype, *rest, "int64"}
    assert (made.details["onnx"]["precision"], made.details["onnx"]["verified"]) == (dtype, True)
    assert made.details["tensors"][made.inputs[0].name].startswith("input float32")
    assert made.quantization_report().score.drop < 0.02
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.{precision}.tensorrt"]


def test_what_is_kept_beside_the_engine_is_what_it_was_built_from(export, builds, onnx):
    from modelexport_onnx import toolkit

    (made,) = export("cnn", "int8", options={"sm": "sm89"})
    kept = made.path / made.stand_in.entry
    assert toolkit.precision(onnx.load(kept)) == "int8"
    assert made.stand_in.details["rounded"] == "float16"
    with pytest.raises(ArtifactError, match="is quantized already: it is int8, made from"):
        mx.quantize(made.path, options={"mode": "fp8"})


def test_an_onnx_target_beside_it_shares_the_quantized_model(export, builds, quantizations):
    """fp8 is made for TensorRT whoever asks, so both have one and the same."""
    onnx, engine = export("cnn", "fp8", ["onnx", "tensorrt"], options={"sm": "sm89"})
    assert (len(builds), quantizations) == (1, [("tensorrt", "fp8")])
    assert (onnx.format, onnx.precision, onnx.parity.verified) == ("onnx", "fp8", True)
    assert engine.details["onnx"]["worst"]["max_abs"] == max(row.max_abs for row in onnx.parity.outputs)
    assert (engine.path / "source" / "model.onnx").read_bytes() == onnx.entry_path.read_bytes()


def test_int8_for_onnx_runtime_is_another_than_int8_for_tensorrt(export, builds, quantizations, monkeypatch):
    """Each is quantized once, from one export."""
    monkeypatch.setattr(latency, "TURNS", 2)
    onnx, engine = export("linear", "int8", ["onnx", "tensorrt"], options={"sm": "sm89"})
    assert len(builds) == 1
    assert sorted(quantizations) == [("auto", "auto"), ("tensorrt", "static")]
    assert onnx.lineage[0] == engine.lineage[0]


@pytest.mark.parametrize(("options", "rest"), [({}, "float16"), ({"activations": "fp32"}, "float32")])
def test_options_reach_the_step_that_has_them(export, options, rest):
    (made,) = export("cnn", "int8", options={"sm": "sm89", "explain": "false", **options})
    assert set(made.details["precisions"]) <= {"int8", rest, "int64"}
    assert made.quantization_report().layers == ()


def test_a_file_and_an_artifact_are_sources_too(nets, data, builds, tmp_path):
    (source,) = mx.export(nets("linear"), "onnx", tmp_path)
    options, inputs = {"sm": "sm89"}, ["x:float32[batch=1..8,256]=-1..1"]
    (of_artifact,) = mx.export(source.path, "tensorrt", tmp_path, precision="int4", options=options, name="a")
    (of_file,) = mx.export(
        source.entry_path, "tensorrt", tmp_path, precision="int4", options=options, inputs=inputs, name="f"
    )
    assert len(builds) == 2
    for made in (of_artifact, of_file):
        assert (made.precision, made.details["precisions"]["int4"]) == ("int4", 3)
        assert [step.verb for step in made.lineage][-2:] == ["quantize", "export"]
        assert made.details["onnx"]["verified"] is True


def test_an_artifact_that_is_quantized_for_tensorrt_is_compiled_as_it_is(nets, data, builds, kernels, tmp_path):
    """`mx quantize --preset tensorrt` on an ONNX artifact, and an engine of what it gives."""
    (base,) = mx.export(nets("cnn"), ["onnx"], tmp_path)
    options = {"preset": "tensorrt", "explain": "false"}
    int8 = mx.quantize(base.path, tmp_path / "cnn.int8.onnx", options=options, calibration=data("cnn"))
    (made,) = mx.export(int8.path, ["tensorrt"], tmp_path, name="compiled", options={"sm": "sm86"})
    assert len(builds) == 1
    assert made.precision == "int8"
    assert sum(layer.kind in ("convolution", "matrix product") for layer in kernels(made, "int8")) == 4
    assert by_kind(made.layers)["convolution"] == {"int8": 3}
    assert made.details["onnx"]["verified"] is True


def test_reasons_for_layers_in_float32_come_with_the_engine(nets, builds, tmp_path):
    (made,) = mx.export(nets("cancelling"), "tensorrt", tmp_path, precision="fp16", options={"sm": "sm89"})
    kept = made.details["onnx"]["kept"]
    assert any("round badly" in why for why in kept.values())
    assert made.details["precisions"]["float16"] >= 1


# --------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("precision", NEEDS_DATA)
def test_precisions_that_take_real_inputs(nets, builds, tmp_path, precision):
    with pytest.raises(OptionError, match=f"{precision} takes the ranges of activations from data") as caught:
        mx.export(nets("cnn"), "tensorrt", tmp_path, precision=precision)
    assert "give --calibration" in caught.value.hint
    assert (builds, list(tmp_path.iterdir())) == ([], [])


def test_bfloat16_for_turing_is_refused_before_the_model_is_loaded(builds, tmp_path):
    (tmp_path / "net.py").write_text("raise AssertionError('it was loaded')\n")
    with pytest.raises(OptionError, match="sm75 has no bfloat16"):
        mx.export(
            f"{tmp_path / 'net.py'}:net", "tensorrt", tmp_path, precision="bf16", options={"sm": "sm75,sm86"}
        )
    assert builds == []


def test_a_model_in_another_precision_is_refused_with_the_way_to_it(nets, builds, tmp_path):
    with pytest.raises(OptionError, match="precision=fp16: the ONNX model computes in float32") as caught:
        mx.export(nets("cnn"), "tensorrt", tmp_path, options={"precision": "fp16"})
    assert "--precision fp16 makes it so" in caught.value.hint
    assert builds == []


def test_a_copy_over_its_budget_builds_no_engine(nets, data, builds, tmp_path):
    options = {"sm": "sm89", "calibrator": "percentile", "percentile": "5", "explain": "false"}
    with pytest.raises(ParityError, match=r"onnx does not compute what the source computes: .*cosine 0\."):
        mx.export(
            nets("linear"), "tensorrt", tmp_path, precision="fp8", calibration=data("linear"), options=options
        )
    assert builds == []
    (failed,) = tmp_path.iterdir()
    assert failed.name == "linear.fp8.tensorrt.onnx.failed"


def test_precisions_are_those_that_it_compiles(nets, tmp_path):
    with pytest.raises(OptionError, match="target 'tensorrt' has no precision 'int2'") as caught:
        mx.export(nets("cnn"), "tensorrt", tmp_path, precision="int2")
    assert caught.value.hint.startswith("it has fp16, bf16, int8, fp8, int4")
