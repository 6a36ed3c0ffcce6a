"""Copies of ONNX models in fp16, bf16 and int4, and the numbers that fp8 and int4 are written in."""

import collections

import ml_dtypes
import modelexport as mx
import numpy as np
import onnx
import pytest
from modelexport.errors import ConversionError, OptionError
from modelexport.gate import golden
from modelexport_onnx import halves, modelfile, session
from modelexport_tensorrt.precision import blocks, converted, counts, float8, halving
from onnx import TensorProto, helper, numpy_helper

NETS = """
import modelexport as mx
import torch
from torch import nn


def linear():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 100), nn.ReLU(), nn.Linear(100, 64))
    return mx.Source(net, inputs=("x:float32[batch=1..8,256]=-1..1",), outputs=("y",))


def cnn():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )
    return mx.Source(net, inputs=("image:float32[batch=1..8,3,16,16]=-1..1",), outputs=("scores",))


class Unit(nn.Module):
    "Rows of length 1, and zeros for zeros."

    def forward(self, x):
        return x / torch.clamp(x.norm(dim=-1, keepdim=True), min=1e-9)


def unit():
    net = nn.Sequential(nn.Linear(8, 8, bias=False), Unit())
    return mx.Source(net, inputs=("x:float32[4,8]=-1..1",), outputs=("y",))


def cancelling():
    "Two channels of the second convolution differ by less than their weights are rounded by in half precision."
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1), nn.ReLU(), nn.Conv2d(1, 4, 3))
    with torch.no_grad():
        net[0].weight[:] = 1.0
        net[0].bias[:] = 0.0
        net[2].weight[:] = torch.tensor([1000.3, -1000.1]).reshape(1, 2, 1, 1)
        net[2].bias[:] = 0.0
    return mx.Source(net, inputs=("image:float32[1,1,8,8]=0..1",), outputs=("y",))
"""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """ONNX artifacts of the nets, each made once."""
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "nets.py").write_text(NETS)
    made = {}

    def get(name):
        if name not in made:
            (made[name],) = mx.export(f"{folder / 'nets.py'}:{name}", ["onnx"], folder)
        return made[name]

    return get


@pytest.fixture
def convert(zoo, tmp_path):
    def run(name, precision, **settings):
        artifact, path = zoo(name), tmp_path / "converted.onnx"
        made = converted(artifact.entry_path, path, precision, golden.load(artifact.golden).cases, **settings)
        return made, onnx.load(path)

    return run


def node(model, name):
    return next(each for each in model.graph.node if each.name == name)


# --------------------------------------------------------------------------------------- numbers


def e4m3():
    """Every finite number of the type, from its definition: 4 bits of exponent with bias 7, 3 of mantissa."""
    positive = [m / 8 * 2.0**-6 for m in range(8)]
    positive += [(1 + m / 8) * 2.0 ** (e - 7) for e in range(1, 16) for m in range(8) if (e, m) != (15, 7)]
    return np.array(sorted({*positive, *(-value for value in positive)}))


def test_float8_is_the_nearest_number_of_the_type():
    values, draw = e4m3(), np.random.default_rng(0)
    assert values.max() == float8.LARGEST == 448
    weight = np.concatenate([draw.normal(0, 1, 4000), draw.normal(0, 1e-3, 1000), [0.0, 3.0]]).astype(np.float32)
    scale = float8.scale_of(float(np.abs(weight).max()))
    got = float8.rounded(weight, scale).astype(np.float64)
    exact = (weight / scale).astype(np.float64)
    nearest = np.abs(values[None] - exact[:, None]).min(1)
    assert np.isin(got, values).all()
    np.testing.assert_allclose(np.abs(got - exact), nearest, rtol=0, atol=1e-12)
    assert got.max(initial=0) == 448 or got.min() == -448  # the scale uses the whole range
    assert np.array_equal(got, (weight / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float64))
    assert float8.rounded(np.float32([1e9, -1e9]), np.float32(1)).tolist() == [448, -448]  # not NaN


def test_float8_is_what_onnx_runtime_quantizes_to():
    draw = np.random.default_rng(1)
    x = draw.normal(0, 2, 512).astype(np.float32)
    scale = float8.scale_of(float(np.abs(x).max()))
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(scale, "s"),
        numpy_helper.from_array(float8.rounded(np.float32(0), scale), "z"),
    ]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [512]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", tensors[:1], tensors[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (y,) = session.open_model(model, config=session.AS_WRITTEN).run(None, {"x": x})
    np.testing.assert_array_equal(y, float8.rounded(x, scale).astype(np.float32) * scale)


@pytest.mark.parametrize("size", [64, 128])
def test_int4_is_off_by_half_a_scale_at_most_and_better_than_plain_rounding(size):
    weight = np.random.default_rng(0).normal(0, 0.05, (256, 48)).astype(np.float32)
    weight[size : 2 * size, 7] = 0
    codes, scales = blocks.rounded(weight, size)
    assert (codes.dtype, codes.shape, scales.shape) == (np.int8, (256, 48), (256 // size, 48))
    assert (codes.min(), codes.max()) == (-8, 7)
    spread = np.repeat(scales, size, 0)
    inside = (weight <= 7.5 * spread) & (weight >= -8.5 * spread)
    errors = np.abs(codes * spread - weight)
    assert (errors[inside] <= spread[inside] / 2 * (1 + 1e-5)).all()
    assert inside.mean() > 0.97
    assert not codes[size : 2 * size, 7].any()
    plain = np.repeat(np.abs(weight.reshape(-1, size, 48)).max(1), size, 0) / 7
    plain[plain == 0] = 1
    assert (errors**2).sum() < 0.95 * ((np.rint(weight / plain) * plain - weight) ** 2).sum()


# --------------------------------------------------------------------------------------- halves


@pytest.mark.parametrize(("precision", "dtype", "bits"), [("fp16", "float16", 11), ("bf16", "bfloat16", 8)])
def test_halves_keep_inputs_and_outputs_and_are_verified_with_every_tensor_rounded(
    zoo, convert, precision, dtype, bits
):
    made, model = convert("linear", precision)
    assert (made.precision, made.kept, made.counts) == (dtype, {}, {dtype: 3})
    assert {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)} == {
        TensorProto.FLOAT
    }
    worst = made.onnx["worst"]
    assert made.onnx["verified"] is True
    assert 2.0 ** -(bits + 3) < worst["max_rel"] < 2.0 ** -(bits - 4)  # rounded, and no more than that
    # What is compared computes as if every tensor were rounded: here by hand.
    case = golden.load(zoo("linear").golden).cases[0]
    kind = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    weights = [numpy_helper.to_array(t).astype(np.float32) for t in model.graph.initializer]
    x = case.inputs["x"].astype(kind).astype(np.float32)
    matrices, biases = ([w for w in weights if w.ndim == n] for n in (2, 1))
    for index, (matrix, bias) in enumerate(zip(matrices, biases, strict=True)):
        x = (x @ matrix.T + bias).astype(kind).astype(np.float32)
        x = np.maximum(x, 0) if index < 2 else x
    simulated = session.open_model(halves.simulated(model, dtype)).run(None, case.inputs)[0]
    assert np.mean(simulated == x) > 0.7  # sums in another order round another way, now and then
    np.testing.assert_allclose(simulated, x, atol=4 * 2.0**-bits * np.abs(x).max())


def test_a_guard_that_half_precision_makes_zero_stays(convert):
    made, model = convert("unit", "fp16")
    guards = {name: why for name, why in made.kept.items() if "zero in float16" in why}
    assert len(guards) >= 1
    zeros = {"x": np.zeros((4, 8), np.float32)}
    assert session.open_model(halves.simulated(model, "float16")).run(None, zeros)[0].tolist() == [[0.0] * 8] * 4


def test_what_rounds_badly_stays_in_float32_with_who_reads_it(zoo, convert):
    with pytest.raises(ConversionError, match="in float16 the ONNX model computes something else"):
        artifact = zoo("cancelling")
        cases = golden.load(artifact.golden).cases
        made, _ = halving.halved(modelfile.load(artifact.entry_path), "float16", cases)
        from modelexport_tensorrt.precision import gate

        gate.verify(halves.simulated(made, "float16"), "float16", cases)
    made, model = convert("cancelling", "fp16")
    assert made.onnx["verified"] is True
    assert made.counts == {"float": 1, "float16": 2}
    (conv,) = [
        each for each in model.graph.node if each.op_type == "Conv" and not each.input[1].endswith("_float16")
    ]
    assert "round badly" in made.kept[conv.name]
    assert sum(f"it reads {conv.name}" in why for why in made.kept.values()) == 1


def test_convolutions_become_bfloat16_too(convert):
    made, model = convert("cnn", "bf16")
    assert made.counts == {"bfloat16": 3}
    assert model.opset_import[0].version >= 22


# --------------------------------------------------------------------------------------- int4


def test_int4_is_of_the_weights_that_blocks_fit(convert):
    made, model = convert("linear", "int4")
    assert made.counts == {"int4": 2, "float16": 1}
    assert made.settings == {"block_size": 128, "activations": "fp16"}
    assert list(made.kept.values()) == ["its 100 inputs are no multiple of block-size=128"]
    pairs = [each for each in model.graph.node if each.op_type == "DequantizeLinear"]
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for pair in pairs:
        assert len(pair.input) == 2  # no zero points
        assert stored[pair.input[0]].data_type == TensorProto.INT4
        assert stored[pair.input[1]].data_type == TensorProto.FLOAT16
        assert {a.name: a.i for a in pair.attribute} == {"axis": 0, "block_size": 128}
    assert made.onnx["verified"] is True
    assert made.onnx["worst"]["cosine"] > 0.98


def test_int4_keeps_where_nodes_come_from(convert):
    made, model = convert("linear", "int4")
    products = [each for each in model.graph.node if each.op_type == "MatMul"]
    assert len(products) == 3
    assert collections.Counter(counts(model)) == made.counts


@pytest.mark.parametrize(
    ("name", "settings", "kind", "message"),
    [
        ("cnn", {}, ConversionError, "nothing of the model can be int4 in blocks of 128"),
        ("linear", {"block_size": 100}, OptionError, "there are no blocks of 100"),
    ],
)
def test_int4_refuses(convert, name, settings, kind, message):
    with pytest.raises(kind, match=message):
        convert(name, "int4", **settings)


def test_calibrated_precisions_are_not_made_without_data(convert):
    with pytest.raises(OptionError, match="precision=fp8 takes real inputs"):
        convert("linear", "fp8")
