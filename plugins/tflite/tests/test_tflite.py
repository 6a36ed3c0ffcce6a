"""Export to TFLite: names, dims, layouts, what the file holds, and what is refused."""

import json
import zipfile

import modelexport as mx
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("litert_torch")

from modelexport import api  # noqa: E402
from modelexport.errors import ConversionError, InputError, OptionError, RuntimeFailure  # noqa: E402
from modelexport.gate import cases  # noqa: E402
from modelexport_tflite import RunOptions, flatbuffer, session  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402


def export(module, folder, *inputs, outputs=(), processing=None, dims=(), **options):
    torch.manual_seed(0)
    source = mx.Source(module.eval(), inputs=inputs, outputs=outputs, name="net", processing=processing or {})
    (artifact,) = mx.export(source, ["tflite"], folder, dims=dims, options=options)
    return artifact


def worst(artifact):
    return max(row.max_abs for row in artifact.parity.outputs)


class Small(nn.Module):
    """A CNN that flattens: the batch is in a constant of the converted file."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8),
            nn.AdaptiveAvgPool2d(3),
        )  # fmt: skip
        self.head = nn.Linear(72, 4)

    def forward(self, image):
        return self.head(self.body(image).flatten(1)).softmax(-1)


class Encoder(nn.Module):
    """Embedding, attention under a mask, mean pooling."""

    def __init__(self):
        super().__init__()
        self.words, self.qkv = nn.Embedding(50, 16), nn.Linear(16, 48)

    def forward(self, ids, mask):
        q, k, v = self.qkv(self.words(ids)).unflatten(-1, (2, 24)).transpose(1, 2).chunk(3, -1)
        mixed = F.scaled_dot_product_attention(q, k, v, mask.bool()[:, None, None, :])
        share = mask[..., None].float()
        return (mixed.transpose(1, 2).flatten(2) * share).sum(1) / share.sum(1).clamp(min=1e-6)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    processing = {"labels": ["cat", "dog", "owl", "yak"], "image": {"mean": [0.5, 0.5, 0.5]}}
    return export(
        Small(), tmp_path_factory.mktemp("small"), "image:float32[batch=1..8,3,16,16]", outputs=("score",),
        processing=processing,
    )  # fmt: skip


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    inputs = [
        f"{name}:int64[batch=1..4,seq=8..24/8]={values}" for name, values in (("ids", "0..49"), ("mask", "mask"))
    ]
    return export(Encoder(), tmp_path_factory.mktemp("texts"), *inputs)


# --------------------------------------------------------------------------------------- what is written


def test_a_flattening_cnn_takes_every_batch(small):
    assert small.parity.verified is True
    assert worst(small) < 1e-5
    assert small.details["resized"] == "batch"
    assert small.details["file"] == {"input image": "float32[-1, 3, 16, 16]", "output score": "float32[-1, 4]"}
    assert "compared with the model at 1, 4, 8" in small.notes[0]


def test_inspect_shows_operators_and_the_delegates_share(small):
    assert small.details["operators"]["CONV_2D"] == 1
    assert small.details["operators"]["DEPTHWISE_CONV_2D"] == 1
    found = small.details["delegated"]
    assert found["operators"] == found["of"] == sum(small.details["operators"].values())
    assert found["parts"] == 1
    assert found["left"] == {}


def test_layers_are_called_as_the_models_modules(small):
    model = flatbuffer.read(small.entry_path)
    names = [tensor.name.decode() for tensor in model.subgraphs[0].tensors]
    assert {"body.0", "body.3", "head", "image", "score"} <= set(names)


def test_sizes_in_steps_get_a_signature_each_and_share_the_weights(texts):
    assert texts.parity.verified is True
    assert texts.details["signatures"] == {"seq_8": {"seq": 8}, "seq_16": {"seq": 16}, "seq_24": {"seq": 24}}
    assert flatbuffer.signatures(flatbuffer.read(texts.entry_path)) == ["seq_8", "seq_16", "seq_24"]
    weights = sum(size for name, size in texts.details["weights"].items() if name == "float32")
    assert 4 * (50 * 16 + 48 * 16 + 48) <= weights < 1.2 * 4 * (50 * 16 + 48 * 16 + 48)


def test_a_session_picks_the_signature(texts):
    with api.run(texts.path) as opened:
        for batch, seq in ((1, 8), (3, 24), (4, 16), (1, 8)):
            inputs = cases.generate_at(texts.inputs, {"batch": batch, "seq": seq})
            assert opened(inputs)["output"].shape == (batch, 16)
        with pytest.raises(InputError, match="outside"):
            opened(cases.generate_at(texts.inputs, {"batch": 1, "seq": 9}))


def test_integers_that_do_not_fit_are_refused(texts):
    inputs = cases.generate_at(texts.inputs, {"batch": 1, "seq": 8})
    assert "input ids" in texts.details["file"]
    assert texts.details["file"]["input ids"].startswith("int32")
    with api.run(texts.path) as opened, pytest.raises(InputError, match="beyond 32 bits"):
        opened({**inputs, "ids": inputs["ids"] + 2**40})


def test_labels_are_in_the_file(small):
    with zipfile.ZipFile(small.entry_path) as archive:
        assert archive.namelist() == ["processing.json", "labels.txt"]
        assert archive.read("labels.txt").decode().split() == ["cat", "dog", "owl", "yak"]
        assert json.loads(archive.read("processing.json"))["image"]["mean"] == [0.5, 0.5, 0.5]


def test_channels_last_is_inside_only(tmp_path):
    artifact = export(Small(), tmp_path, "image:float32[2,3,16,16]", layout="nhwc")
    assert artifact.parity.verified is True
    assert artifact.inputs[0].shape == (2, 3, 16, 16)
    assert artifact.details["file"]["input image"] == "float32[2, 16, 16, 3]"
    assert "TRANSPOSE" not in artifact.details["operators"] or artifact.details["operators"]["TRANSPOSE"] == 1
    with pytest.raises(OptionError, match="rank 4"):
        export(nn.Linear(3, 2), tmp_path, "x:float32[2,3]", layout="nhwc")


def test_a_recurrent_net_with_a_dynamic_batch(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRU(4, 6, batch_first=True, bidirectional=True)

        def forward(self, x):
            return self.cell(x)[0]

    artifact = export(Net(), tmp_path, "x:float32[batch=1..16,3,4]")
    assert artifact.parity.verified is True
    assert artifact.details["resized"] == "batch"


def test_group_norm_and_a_transposed_convolution_with_an_open_batch(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.norm = nn.ConvTranspose2d(3, 8, 2, stride=2), nn.GroupNorm(2, 8)

        def forward(self, x):
            return self.norm(self.up(x)).flatten(2).mean(2)

    artifact = export(Net(), tmp_path, "x:float32[batch,3,6,6]")
    assert artifact.parity.verified is True
    assert artifact.details["resized"] == "batch"
    assert "BROADCAST_TO" not in artifact.details["operators"]


def test_a_batch_that_does_not_resize_gets_signatures(tmp_path):
    class Rows(nn.Module):
        """Compares every row with every other: the batch is two axes of one tensor."""

        def forward(self, x):
            return (x[:, None] - x[None]).abs().sum(-1).flatten()

    artifact = export(Rows(), tmp_path, "x:float32[batch=2..5,3]")
    assert artifact.parity.verified is True
    assert "resized" in artifact.details or len(artifact.details["signatures"]) == 4


# --------------------------------------------------------------------------------------- what is refused


def test_a_dim_that_cannot_stay_dynamic_is_named_with_the_flag(tmp_path):
    inputs = ("ids:int64[batch=1..4,seq=1..512]=0..49", "mask:int64[batch=1..4,seq=1..512]=mask")
    with pytest.raises(ConversionError, match=r"dimension seq=1\.\.512 can't stay dynamic") as caught:
        export(Encoder(), tmp_path, *inputs)
    assert "--dim tflite.seq=128" in caught.value.hint
    artifact = export(Encoder(), tmp_path, *inputs, dims=["tflite.seq=32"])
    assert artifact.parity.verified is True


def test_unsupported_operators_are_listed_at_once_with_their_place(tmp_path):
    class Inner(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x) + torch.special.airy_ai(x)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def forward(self, x):
            return self.inner(x) * 2

    with pytest.raises(ConversionError) as caught:
        export(Outer(), tmp_path, "x:float32[2,3]=0..1")
    assert "2 operators have no LiteRT translation" in caught.value.message
    assert "special_bessel_j0" in caught.value.message
    assert "special_airy_ai" in caught.value.message
    assert "inner (Inner)" in caught.value.message
    assert "test_tflite.py:" in caught.value.message


def test_a_state_is_refused(tmp_path):
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("total", torch.zeros(3))

        def forward(self, x):
            self.total.add_(x.sum(0))
            return self.total * 2

    with pytest.raises(ConversionError, match="updates total in its forward"):
        export(Counter(), tmp_path, "x:float32[2,3]")


def test_double_precision_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="float64"):
        export(nn.Linear(3, 2).double(), tmp_path, "x:float64[2,3]")


# --------------------------------------------------------------------------------------- sessions


def test_a_damaged_file_is_a_runtime_failure(small, tmp_path):
    data = small.entry_path.read_bytes()
    for name, damaged in (("cut", data[: len(data) // 3]), ("text", b"not a model"), ("empty", b"")):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(damaged)
        with pytest.raises(RuntimeFailure, match=name):
            session.load(path)


def test_every_delegate_and_threads(small):
    inputs = cases.generate_at(small.inputs, {"batch": 3})
    found = []
    for options in (
        RunOptions(),
        RunOptions(threads=2),
        RunOptions(delegate="none"),
        RunOptions(delegate="reference"),
    ):
        with session.open_artifact(small, options) as opened:
            found.append(opened(inputs)["score"])
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, atol=1e-5)


def test_outputs_are_copies(small):
    with api.run(small.path) as opened:
        one = cases.generate_at(small.inputs, {"batch": 2})
        first = opened(one)["score"]
        kept = first.copy()
        opened({"image": one["image"] * 2})
        np.testing.assert_array_equal(first, kept)
