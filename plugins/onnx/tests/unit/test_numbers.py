"""The numbers that fp8 and int4 are written in."""

import numpy as np
import pytest


def e4m3():
    """Every finite number of the type, from its definition: 4 bits of exponent with bias 7, 3 of mantissa."""
    positive = [m / 8 * 2.0**-6 for m in range(8)]
    positive += [(1 + m / 8) * 2.0 ** (e - 7) for e in range(1, 16) for m in range(8) if (e, m) != (15, 7)]
    return np.array(sorted({*positive, *(-value for value in positive)}))


def test_float8_is_the_nearest_number_of_the_type(onnx):
    import ml_dtypes
    from modelexport_onnx.quantize import float8

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


def test_float8_is_what_onnx_runtime_quantizes_to(onnx):
    from modelexport_onnx import details, session
    from modelexport_onnx.quantize import float8
    from onnx import TensorProto, helper, numpy_helper

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
    (y,) = session.open_model(model, config=details.AS_WRITTEN).run(None, {"x": x})
    np.testing.assert_array_equal(y, float8.rounded(x, scale).astype(np.float32) * scale)


@pytest.mark.parametrize("size", [64, 128])
def test_int4_is_off_by_half_a_scale_at_most_and_better_than_plain_rounding(size):
    from modelexport_onnx.quantize import blocks

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
