"""Engines that are built here, without a GPU, and what is said of them."""

import json
import subprocess
import sys
from pathlib import Path

import modelexport
import numpy as np
import pytest
from modelexport.contract import by_kind
from modelexport.errors import ArtifactError, CannotRunHere
from modelexport_tensorrt import ExportOptions, export

INPUTS = ["x:float32[batch=1..16,3,32,32]"]


@pytest.fixture(scope="module")
def export_net(nets, tmp_path_factory):
    """Export the net: `export_net("fp16", sm="sm89") -> Artifact`."""

    def make(precision=None, **options):
        (made,) = modelexport.export(
            nets("classifier"), "tensorrt", tmp_path_factory.mktemp("out"), inputs=INPUTS, options=options,
            precision=precision,
        )  # fmt: skip
        return made

    return make


@pytest.fixture(scope="module")
def artifact(export_net):
    return export_net()


# --------------------------------------------------------------------------------------- what is written


def test_an_engine_says_what_it_computes(artifact):
    found = artifact.layers
    counts = by_kind(found)
    assert counts["convolution"] == {"float32": 2}
    sources = [layer.source for layer in found]
    assert sum("Conv" in source or "conv" in source for source in sources) == 2
    assert sum("linear" in source for source in sources) == 1
    assert artifact.details["precisions"] == {"float32": len([layer for layer in found if layer.precision])}
    assert artifact.details["tensors"] == {
        "x": "input float32[-1,3,32,32] 1x3x32x32:8x3x32x32:16x3x32x32",
        artifact.outputs[0].name: "output float32[-1,10]",
    }
    assert artifact.details["profiles"] == ["batch=1:8:16"]
    assert artifact.details["bytes"] == artifact.entry_path.stat().st_size > 20_000


def test_it_is_verified_as_far_as_this_machine_goes(artifact, no_gpu):
    assert artifact.parity.verified == "structure"
    assert "no NVIDIA driver" in artifact.parity.reason
    assert artifact.details["onnx"]["verified"] is True
    assert artifact.details["onnx"]["worst"]["used"] < 1
    (note,) = artifact.notes
    assert "were not run on a GPU here" in note and "mx verify" in note
    assert [step.target for step in artifact.lineage] == ["onnx", "tensorrt"]


def test_the_onnx_model_is_kept_and_not_deployed(artifact, export_net):
    kept = artifact.path / export.ONNX
    source = export.kept(artifact)
    assert (source.entry_path, source.format, source.precision) == (kept, "onnx", "float32")
    assert kept.stat().st_size > 20_000
    assert artifact.size == artifact.details["bytes"]
    without = export_net(**{"keep-onnx": "false"})
    assert not (without.path / "source").exists()


def test_it_can_be_built_again_as_it_was(export_net, tmp_path):
    made = export_net(sm="sm86,sm89", profile="batch=1:2:16")
    chosen = export.options_of(made)
    assert chosen == ExportOptions(sm=("sm86", "sm89"), profile=("batch=1:2:16",))
    build = export.compiled(export.read(export.kept(made)), tmp_path, chosen)
    assert build.details["sm"] == ["sm86", "sm89"]
    assert build.details["profiles"] == made.details["profiles"]
    assert build.details["precisions"] == made.details["precisions"]


def test_more_gpus_cost_no_size(artifact, export_net):
    one = export_net(sm="sm86")
    assert one.details["sm"] == ["sm86"]
    assert artifact.details["sm"] == ["sm80", "sm86", "sm89", "sm120", "sm121"]
    assert artifact.size == pytest.approx(one.size, rel=0.02)


def test_two_targets_share_the_onnx_model(nets, tmp_path):
    onnx, engine = modelexport.export(nets("classifier"), ["onnx", "tensorrt"], tmp_path, inputs=INPUTS)
    assert onnx.parity.verified is True
    assert engine.details["onnx"]["worst"]["max_abs"] == max(row.max_abs for row in onnx.parity.outputs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classifier.onnx", "classifier.tensorrt"]


def test_a_file_is_a_source_too(artifact, tmp_path):
    (made,) = modelexport.export(artifact.path / export.ONNX, "tensorrt", tmp_path, inputs=INPUTS)
    assert made.details["onnx"] == {"precision": "float32", "verified": "it is the source itself"}
    assert made.details["precisions"] == artifact.details["precisions"]
    (half,) = modelexport.export(
        artifact.path / export.ONNX, "tensorrt", tmp_path, inputs=INPUTS, precision="fp16"
    )
    assert half.precision == "float16"
    assert half.details["onnx"]["verified"] is True
    assert by_kind(half.layers)["convolution"] == {"float16": 2}


def test_options_of_the_builder(export_net):
    made = export_net(**{"weight-streaming": "true", "optimization-level": "1"})
    assert made.details["tensors"]["x"].startswith("input float32[-1,3,32,32]")
    assert made.parity.verified in (True, "structure")


def test_sizes_that_come_from_values(onnx, trt, tmp_path):
    from onnx import TensorProto, helper

    values = {
        name: helper.make_tensor_value_info(name, dtype, shape)
        for name, dtype, shape in (
            ("x", TensorProto.FLOAT, [1, 1]),
            ("shape", TensorProto.INT64, [2]),
            ("y", TensorProto.FLOAT, ["rows", "columns"]),
        )
    }
    nodes = [helper.make_node("Expand", ["x", "shape"], ["y"], name="expand")]
    graph = helper.make_graph(nodes, "graph", [values["x"], values["shape"]], [values["y"]])
    path = tmp_path / "expand.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    inputs = ["x:float32[1,1]", "shape:int64[2]=1..9"]
    (made,) = modelexport.export(path, "tensorrt", tmp_path, inputs=inputs)
    assert made.details["tensors"]["y"] == "output float32[-1,-1]"


def test_float64_within_the_model_is_noted(nets, tmp_path):
    (made,) = modelexport.export(nets("doubled"), "tensorrt", tmp_path, inputs=["x:float32[2,4]"])
    assert made.notes[0] == "parts of the model are float64; TensorRT computes them in float32"


def test_an_open_dim_gets_an_end_and_that_is_said(nets, tmp_path):
    (made,) = modelexport.export(nets("classifier"), "tensorrt", tmp_path, inputs=["x:float32[batch,3,32,32]"])
    assert made.notes[0] == "batch has no upper bound, and engines have one: it is 32 (-k bound=…)"
    assert made.details["bounds"] == {"batch": 32}


def test_nothing_is_said_but_the_result(nets, tmp_path, no_gpu):
    mx = Path(sys.executable).with_name("mx")
    command = [mx, "export", nets("classifier"), "-t", "tensorrt", "-o", tmp_path, "--json"]
    done = subprocess.run([*map(str, command), "--input", INPUTS[0]], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert json.loads(done.stdout)


# --------------------------------------------------------------------------------------- precision


def test_precision_comes_from_the_onnx_model(trt, tmp_path):
    onnx = tmp_path / "quantized.onnx"
    write_quantized(onnx)
    (made,) = modelexport.export(onnx, "tensorrt", tmp_path)
    assert made.precision == "int8"
    rows = [row for row in made.layers if row.precision == "int8"]
    assert [row.kind for row in rows] == ["matrix product"]
    assert set(rows[0].source.split(", ")) == {"product", "dequantize_x", "dequantize_w", "quantize_w"}


def test_fp8_builds_where_a_gpu_has_it(trt, tmp_path):
    onnx = tmp_path / "quantized.onnx"
    write_quantized(onnx, "FLOAT8E4M3FN")
    (made,) = modelexport.export(onnx, "tensorrt", tmp_path)
    assert made.precision == "fp8"
    assert made.details["sm"] == ["sm89", "sm120", "sm121"]
    assert made.details["precisions"]["fp8"] == 1


def write_quantized(path, kind="INT8"):
    """A matrix product with both sides quantized."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    scale, zero = np.array(0.05, np.float32), helper.make_tensor("zero", TensorProto.DataType.Value(kind), [], [0])
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"], name="quantize_x"),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"], name="dequantize_x"),
        helper.make_node("QuantizeLinear", ["w", "scale", "zero"], ["wq"], name="quantize_w"),
        helper.make_node("DequantizeLinear", ["wq", "scale", "zero"], ["wd"], name="dequantize_w"),
        helper.make_node("MatMul", ["xd", "wd"], ["y"], name="product"),
    ]
    tensors = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(scale, "scale"), zero]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 64]) for name in "xy"]
    graph = helper.make_graph(nodes, "graph", values[:1], values[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)


# --------------------------------------------------------------------------------------- profiles


def test_several_profiles_reach_the_engine(export_net):
    made = export_net(profile="x=1x3x32x32:1x3x32x32:4x3x32x32,batch=5:8:16")
    assert made.details["profiles"] == ["batch=1:1:4", "batch=5:8:16"]
    spans = made.details["tensors"]["x"].split()[2:]
    assert spans == ["1x3x32x32:1x3x32x32:4x3x32x32", "5x3x32x32:8x3x32x32:16x3x32x32"]
    first_fixed = export_net(profile="batch=1:1:1,batch=2:8:16")  # TensorRT lists the output's size as fixed then
    assert first_fixed.details["tensors"]["x"].startswith("input float32[-1,3,32,32] 1x3x32x32:")


# --------------------------------------------------------------------------------------- running


def test_this_machine_says_what_it_lacks(artifact, no_gpu):
    with pytest.raises(CannotRunHere, match="no NVIDIA driver"):
        modelexport.run(artifact.path)
    verified = modelexport.verify(artifact.path)
    assert verified.parity.verified == "structure"


def test_a_damaged_engine_is_told_all_the_same(export_net):
    made = export_net()
    made.entry_path.write_bytes(b"\0" * made.details["bytes"])
    with pytest.raises(ArtifactError, match="damaged"):
        modelexport.run(made.path)
