"""Export to TFLite: names, dims, layouts, what the file holds, and what is refused."""

import json
import zipfile

import modelexport as mx
import numpy as np
import pytest
from modelexport import api
from modelexport.errors import ConversionError, InputError, OptionError
from modelexport.gate import cases
from modelexport_tflite import RunOptions, files, session


def export(module, folder, *inputs, outputs=(), processing=None, dims=(), **options):
    import torch

    torch.manual_seed(0)
    module = module() if isinstance(module, type) else module
    source = mx.Source(module.eval(), inputs=inputs, outputs=outputs, name="net", processing=processing or {})
    (artifact,) = mx.export(source, ["tflite"], folder, dims=dims, options=options)
    return artifact


def worst(artifact):
    return max(row.max_abs for row in artifact.parity.outputs)


@pytest.fixture(scope="module")
def small(nets, tmp_path_factory):
    pixels = {"input": "image", "size": [16, 16], "crop": None, "resample": "bicubic", "rescale": 1 / 255,
              "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "color": "RGB", "layout": "NCHW"}  # fmt: skip
    processing = {"labels": ["cat", "dog", "owl", "yak"], "image": pixels}
    return export(
        nets.Small, tmp_path_factory.mktemp("small"), "image:float32[batch=1..8,3,16,16]", outputs=("score",),
        processing=processing,
    )  # fmt: skip


@pytest.fixture(scope="module")
def texts(nets, tmp_path_factory):
    inputs = [
        f"{name}:int64[batch=1..4,seq=8..24/8]={values}" for name, values in (("ids", "0..49"), ("mask", "mask"))
    ]
    return export(nets.Encoder, tmp_path_factory.mktemp("texts"), *inputs)


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
    model = files.read(small.entry_path)
    names = [tensor.name.decode() for tensor in model.subgraphs[0].tensors]
    assert {"body.0", "body.3", "head", "image", "score"} <= set(names)


def test_sizes_in_steps_get_a_signature_each_and_share_the_weights(texts):
    assert texts.parity.verified is True
    assert texts.details["signatures"] == {"seq_8": {"seq": 8}, "seq_16": {"seq": 16}, "seq_24": {"seq": 24}}
    assert files.signatures(files.read(texts.entry_path)) == ["seq_8", "seq_16", "seq_24"]
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


def test_channels_last_is_inside_only(nets, tmp_path):
    import torch

    artifact = export(nets.Small, tmp_path, "image:float32[2,3,16,16]", layout="nhwc")
    assert artifact.parity.verified is True
    assert artifact.inputs[0].shape == (2, 3, 16, 16)
    assert artifact.details["file"]["input image"] == "float32[2, 16, 16, 3]"
    assert "TRANSPOSE" not in artifact.details["operators"] or artifact.details["operators"]["TRANSPOSE"] == 1
    with pytest.raises(OptionError, match="rank 4"):
        export(torch.nn.Linear(3, 2), tmp_path, "x:float32[2,3]", layout="nhwc")


def test_a_recurrent_net_with_a_dynamic_batch(nets, tmp_path):
    artifact = export(nets.Recurrent, tmp_path, "x:float32[batch=1..16,3,4]")
    assert artifact.parity.verified is True
    assert artifact.details["resized"] == "batch"


def test_group_norm_and_a_transposed_convolution_with_an_open_batch(nets, tmp_path):
    artifact = export(nets.Upsampled, tmp_path, "x:float32[batch,3,6,6]")
    assert artifact.parity.verified is True
    assert artifact.details["resized"] == "batch"
    assert "BROADCAST_TO" not in artifact.details["operators"]


def test_a_batch_that_does_not_resize_gets_signatures(nets, tmp_path):
    artifact = export(nets.Rows, tmp_path, "x:float32[batch=2..5,3]")
    assert artifact.parity.verified is True
    assert "resized" in artifact.details or len(artifact.details["signatures"]) == 4


# --------------------------------------------------------------------------------------- what is refused


def test_a_dim_that_cannot_stay_dynamic_is_named_with_the_flag(nets, tmp_path):
    inputs = ("ids:int64[batch=1..4,seq=1..512]=0..49", "mask:int64[batch=1..4,seq=1..512]=mask")
    with pytest.raises(ConversionError, match=r"dimension seq=1\.\.512 can't stay dynamic") as caught:
        export(nets.Encoder, tmp_path, *inputs)
    assert "--dim tflite.seq=128" in caught.value.hint
    artifact = export(nets.Encoder, tmp_path, *inputs, dims=["tflite.seq=32"])
    assert artifact.parity.verified is True


def test_unsupported_operators_are_listed_at_once_with_their_place(nets, tmp_path):
    with pytest.raises(ConversionError) as caught:
        export(nets.WithBessel, tmp_path, "x:float32[2,3]=0..1")
    assert "2 operators have no LiteRT translation" in caught.value.message
    assert "special_bessel_j0" in caught.value.message
    assert "special_airy_ai" in caught.value.message
    assert "inner (Bessel)" in caught.value.message
    assert "nets.py:" in caught.value.message


def test_a_hint_says_what_helps(nets, tmp_path):
    with pytest.raises(ConversionError, match="litert-torch can't convert the model") as caught:
        export(nets.Inverse, tmp_path, "x:float32[2,3,3]")
    assert "compute the inverse beforehand" in caught.value.hint


def test_a_state_is_refused(nets, tmp_path):
    with pytest.raises(ConversionError, match="updates total in its forward"):
        export(nets.Counter, tmp_path, "x:float32[2,3]")


def test_double_precision_is_refused(nets, tmp_path):
    import torch

    with pytest.raises(ConversionError, match="input 'x' is float64, which LiteRT doesn't take or give"):
        export(torch.nn.Linear(3, 2).double(), tmp_path, "x:float64[2,3]")


# --------------------------------------------------------------------------------------- sessions


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
