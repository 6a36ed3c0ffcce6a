"""mx quantize for TensorRT: models that a compiler takes as they are, verified here with every half rounded."""

import dataclasses

import modelexport as mx
import numpy as np
import pytest
from modelexport.contract import dims_of
from modelexport.errors import CannotRunHere, ConversionError, OptionError
from modelexport.gate import golden
from modelexport.toolkit import generate_at, verdict

INPUTS = {
    "linear": ["x:float32[batch=1..8,256]=-1..1"],
    "cnn": ["x:float32[batch=1..8,3,16,16]=-1..1"],
    "unit": ["x:float32[4,8]=-1..1"],
    "cancelling": ["x:float32[1,1,8,8]=0..1"],
}


@pytest.fixture(scope="module")
def artifact(nets, onnx, tmp_path_factory):
    """`artifact(name)`: the ONNX artifact of a net, made once."""
    folder, made = tmp_path_factory.mktemp("zoo"), {}

    def get(name):
        if name not in made:
            net = getattr(nets, name)().eval()
            (made[name],) = mx.export(net, "onnx", folder, inputs=INPUTS[name], name=name)
        return made[name]

    return get


@pytest.fixture(scope="module")
def samples():
    """Real inputs of a net, one row each."""

    def draw(name, count=24):
        generator, spec = np.random.default_rng(0), {"linear": (1, 256), "cnn": (1, 3, 16, 16)}[name]
        return [{"x": generator.uniform(-1, 1, spec).astype(np.float32)} for _ in range(count)]

    return draw


@pytest.fixture(scope="module")
def made(artifact, samples, tmp_path_factory):
    """`made(name, mode, **options)`: a copy for TensorRT, made once, with real data where the mode takes them."""
    folder, copies = tmp_path_factory.mktemp("made"), {}

    def get(name, mode, **options):
        key = (name, mode, *options.items())
        if key not in copies:
            place, asked = folder / f"{len(copies)}.onnx", {"preset": "tensorrt", "mode": mode, **options}
            real = samples(name) if mode in ("static", "fp8") else None
            copies[key] = mx.quantize(artifact(name).path, place, options=asked, calibration=real)
        return copies[key]

    return get


def left(artifact):
    """The layers that stay at higher precision, with the reasons."""
    report = artifact.quantization_report()
    return {each.name: each.note for each in report.layers if each.precision.startswith("float")}


# --------------------------------------------------------------------------------------- halves


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 11), ("bfloat16", 8)])
def test_halves_keep_inputs_and_outputs_and_are_verified_with_every_tensor_rounded(
    artifact, made, graphs, onnx, dtype, bits
):
    import ml_dtypes
    from modelexport_onnx import rounding, session

    copy = made("linear", dtype)
    model, float32 = onnx.load(copy.entry_path), onnx.TensorProto.FLOAT
    assert (copy.precision, copy.parity.verified, copy.details["rounded"]) == (dtype, True, dtype)
    assert (copy.details["kept_in_float32"], left(copy)) == ({}, {})
    assert graphs.weight_types(model) == {dtype: 3}
    assert {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)} == {float32}
    (worst,) = copy.parity.outputs
    assert 2.0 ** -(bits + 3) < worst.max_rel < 2.0 ** -(bits - 4)  # rounded, and no more than that
    # What is compared computes as if every tensor were rounded: here by hand.
    case = golden.load(artifact("linear").golden).cases[0]
    kind = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    weights = [onnx.numpy_helper.to_array(t).astype(np.float32) for t in model.graph.initializer]
    x = case.inputs["x"].astype(kind).astype(np.float32)
    matrices, biases = ([w for w in weights if w.ndim == n] for n in (2, 1))
    for index, (matrix, bias) in enumerate(zip(matrices, biases, strict=True)):
        x = (x @ matrix.T + bias).astype(kind).astype(np.float32)
        x = np.maximum(x, 0) if index < 2 else x
    simulated = session.open_model(rounding.simulated(model, dtype)).run(None, case.inputs)[0]
    assert np.mean(simulated == x) > 0.7  # sums in another order round another way, now and then
    np.testing.assert_allclose(simulated, x, atol=4 * 2.0**-bits * np.abs(x).max())
    with mx.run(copy.path) as opened:
        assert dtype in opened.note
        np.testing.assert_array_equal(opened(case.inputs)["output"], simulated)


def test_a_guard_that_half_precision_makes_zero_stays(made):
    copy = made("unit", "float16")
    guards = {name: why for name, why in copy.details["kept_in_float32"].items() if "zero in float16" in why}
    assert len(guards) >= 1
    assert set(guards) <= set(left(copy))
    with mx.run(copy.path) as session:
        assert session({"x": np.zeros((4, 8), np.float32)})["output"].tolist() == [[0.0] * 8] * 4


def test_what_rounds_badly_stays_in_float32_with_who_reads_it(artifact, made, graphs, onnx):
    from modelexport_onnx import files, rounding, session
    from modelexport_onnx.halves import budget

    source = artifact("cancelling")
    cases = golden.load(source.golden).cases
    plain, _ = budget.halved(files.load(source.entry_path), "float16", cases)
    found = verdict(session.on_model(source, rounding.simulated(plain, "float16")), cases, "float16")
    assert not found.ok
    assert "× the budget" in str(found)
    copy = made("cancelling", "float16")
    model, kept = onnx.load(copy.entry_path), copy.details["kept_in_float32"]
    assert copy.parity.verified is True
    assert graphs.weight_types(model) == {"float": 1, "float16": 2}
    (conv,) = [
        each for each in model.graph.node if each.op_type == "Conv" and not each.input[1].endswith("_float16")
    ]
    assert "round badly" in kept[conv.name]
    assert sum(f"it reads {conv.name}" in why for why in kept.values()) == 1
    assert any(f"{conv.name} stays in float32: its weights round badly" in note for note in copy.notes)


def test_convolutions_become_bfloat16_too(made, graphs, onnx):
    model = onnx.load(made("cnn", "bfloat16").entry_path)
    assert graphs.weight_types(model) == {"bfloat16": 3}
    assert model.opset_import[0].version >= 22


# --------------------------------------------------------------------------------------- 8 bits


@pytest.mark.parametrize(("mode", "precision"), [("static", "int8"), ("fp8", "fp8")])
@pytest.mark.parametrize("activations", ["fp16", "fp32"])
def test_8_bits_with_the_rest_in_half_or_whole(made, mode, precision, activations):
    copy = made("cnn", mode, activations=activations)
    report = copy.quantization_report()
    assert (copy.precision, copy.parity.verified) == (precision, True)
    assert copy.details.get("rounded") == {"fp16": "float16", "fp32": None}[activations]
    assert report.calibrated is True
    assert report.settings["activations"] == activations
    assert report.score.drop < 0.002
    assert all(trial.latency == {} for trial in report.trials)  # nothing here says how fast a GPU is
    assert len(copy.parity.outputs) == 1
    assert all(case.startswith("calibration") for case in copy.parity.cases)


def test_int8_has_symmetric_scales_on_what_goes_in_and_on_nothing_else(made, onnx):
    model = onnx.load(made("cnn", "static", activations="fp16").entry_path)
    heavy = [each for each in model.graph.node if each.op_type in ("Conv", "Gemm", "MatMul")]
    pairs = [each for each in model.graph.node if each.op_type == "DequantizeLinear"]
    assert (len(heavy), len(pairs)) == (3, 6)
    made_by = {each.output[0]: each for each in model.graph.node}
    assert all(made_by[name].op_type == "DequantizeLinear" for each in heavy for name in each.input[:2])
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert all(arrays[each.input[1]].dtype == np.float16 for each in pairs)
    zeros = [arrays[each.input[2]] for each in pairs]
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    assert sum(arrays[each.input[1]].size > 1 for each in pairs) == 3  # a scale a channel, of each weight


def test_float8_weights_are_stored_in_float8(made, graphs, onnx):
    copy = made("cnn", "fp8", activations="fp16")
    assert graphs.weight_types(onnx.load(copy.entry_path)) == {"float8e4m3fn": 3}
    assert copy.quantization_report().mode == "fp8"
    assert {each.precision for each in copy.quantization_report().layers} == {"fp8 weights, fp8 activations"}


def test_layers_are_left_until_the_budget_holds(artifact, samples, tmp_path):
    options = {"preset": "tensorrt", "mode": "weight-only", "bits": "4", "activations": "fp16"}
    source, real = artifact("linear").path, samples("linear")
    whole = mx.quantize(source, tmp_path / "whole.onnx", calibration=real, options=options)
    limit = 0.8 * whole.quantization_report().score.drop
    copy = mx.quantize(source, tmp_path / "budget.onnx", calibration=real, options=options, max_drop=limit)
    report = copy.quantization_report()
    assert copy.parity.verified is True
    assert report.score.drop <= limit
    assert any(trial.simulated for trial in report.trials)
    searched = {name for name, why in left(copy).items() if "block-size" not in why}
    assert len(searched) == 1
    assert {each.precision for each in report.layers if each.name in searched} == {"float16"}


# --------------------------------------------------------------------------------------- int4


def test_int4_is_of_the_weights_that_blocks_fit(made, graphs, onnx):
    copy = made("linear", "weight-only", bits=4, activations="fp16")
    model, report = onnx.load(copy.entry_path), copy.quantization_report()
    assert graphs.weight_types(model) == {"int4": 2, "float16": 1}
    assert (report.settings["block_size"], report.settings["activations"]) == (128, "fp16")
    assert list(left(copy).values()) == ["its 100 inputs are no multiple of block-size=128"]
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for pair in (each for each in model.graph.node if each.op_type == "DequantizeLinear"):
        assert len(pair.input) == 2  # no zero points
        assert stored[pair.input[0]].data_type == onnx.TensorProto.INT4
        assert stored[pair.input[1]].data_type == onnx.TensorProto.FLOAT16
        assert {a.name: a.i for a in pair.attribute} == {"axis": 0, "block_size": 128}
    assert (copy.precision, copy.parity.verified) == ("int4", True)
    assert min(each.cosine for each in copy.parity.outputs) > 0.98


def test_int4_in_smaller_blocks(made, graphs, onnx):
    copy = made("linear", "weight-only", bits=4, block_size=64)
    model = onnx.load(copy.entry_path)
    assert graphs.weight_types(model) == {"int4": 2, "float": 1}
    assert {a.i for n in model.graph.node for a in n.attribute if a.name == "block_size"} == {64}
    assert "rounded" not in copy.details


def test_int4_keeps_where_nodes_come_from(made, onnx):
    from modelexport_onnx import contents

    model = onnx.load(made("linear", "weight-only", bits=4, activations="fp16").entry_path)
    products = [each for each in model.graph.node if each.op_type == "MatMul"]
    assert len(products) == 3
    assert all(contents.place(each) for each in products)


def test_int4_of_a_model_that_has_no_products(artifact, tmp_path):
    options = {"preset": "tensorrt", "mode": "weight-only", "bits": "4"}
    with pytest.raises(ConversionError, match="nothing of the model can be int4 in blocks of 128"):
        mx.quantize(artifact("cnn").path, tmp_path / "q.onnx", options=options)
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------- running


def test_what_is_measured_is_what_is_compiled(made, onnx):
    """As written, ONNX Runtime leaves out the roundings between operators; the session puts them in."""
    from modelexport_onnx import details, session

    copy = made("cnn", "fp8", activations="fp16")
    x = {"x": np.random.default_rng(5).uniform(-1, 1, (8, 3, 16, 16)).astype("float32")}
    with mx.run(copy.path) as opened:
        measured = opened(x)["output"]
    written = session.open_model(onnx.load(copy.entry_path), config=details.AS_WRITTEN).run(None, x)[0]
    np.testing.assert_allclose(measured, written, atol=2e-2 * np.abs(measured).max())
    assert not np.array_equal(measured, written)


def test_a_provider_that_is_asked_for_runs_the_file_as_it_is(made):
    copy = made("cnn", "static", activations="fp16")
    x = {"x": np.random.default_rng(5).uniform(-1, 1, (8, 3, 16, 16)).astype("float32")}
    with mx.run(copy.path) as simulated, mx.run(copy.path, {"providers": "CPUExecutionProvider"}) as plain:
        assert (simulated.note != "", plain.note) == (True, "")
        assert not np.array_equal(simulated(x)["output"], plain(x)["output"])


def test_without_onnx_it_says_what_it_lacks(made, monkeypatch):
    from modelexport_onnx import session

    monkeypatch.setattr(session, "importable", lambda name: False)
    with pytest.raises(CannotRunHere, match="a device with float16, and simulating it takes onnx"):
        mx.run(made("cnn", "static", activations="fp16").path)


# --------------------------------------------------------------------------------------- for other targets


def test_a_copy_for_another_target_is_proven_on_the_way(artifact, samples, tmp_path):
    from modelexport.contract import Goal
    from modelexport.toolkit import open_calibration
    from modelexport_onnx import toolkit

    source = artifact("linear")
    real = open_calibration(source, samples("linear"))
    goal = Goal("cosine", lambda session: 1.0, 1.0, "samples", samples=list(real))
    options = toolkit.QuantizeOptions(mode="fp8", preset="tensorrt", activations="fp16")
    copy = toolkit.quantized(source, tmp_path, options, real, goal)
    assert (copy.precision, copy.entry_path.is_file()) == ("fp8", True)
    assert (copy.parity.verified, len(copy.parity.cases)) == (True, 6)
    assert set(toolkit.running(copy.details)) == {"session", "rounded"}
    worse = dataclasses.replace(options, calibrator="percentile", percentile=5.0)
    with pytest.raises(ConversionError, match=r"in fp8 the ONNX model computes something else: .*cosine 0\."):
        toolkit.quantized(source, tmp_path, worse, real, goal)
    allowed = dataclasses.replace(goal, max_drop=1.0)
    assert toolkit.quantized(source, tmp_path, worse, real, allowed).parity.verified is False


def test_a_model_in_half_precision_is_no_source_of_a_quantized_one(made, tmp_path):
    (copy,) = mx.export(made("cnn", "float16").entry_path, "onnx", tmp_path, name="half")
    assert copy.precision == "float16"
    arrays = generate_at(copy.inputs, {dim.name: 4 for dim in dims_of(copy.inputs)})
    np.savez(tmp_path / "real.npz", **arrays)
    for mode in ("fp8", "static", "bfloat16"):
        wanted = {"static": "int8"}.get(mode, mode)
        data = None if mode == "bfloat16" else tmp_path / "real.npz"
        with pytest.raises(OptionError, match=f"is float16: {wanted} is made from float32"):
            mx.quantize(copy.path, options={"preset": "tensorrt", "mode": mode}, calibration=data)


def test_what_a_compiler_is_to_optimize_is_left_to_it(made, tmp_path):
    copy = made("cnn", "float16")
    with pytest.raises(OptionError, match="is for a compiler, which optimizes what it is given"):
        mx.optimize(copy.path, tmp_path / "o.onnx")
    assert list(tmp_path.iterdir()) == []
