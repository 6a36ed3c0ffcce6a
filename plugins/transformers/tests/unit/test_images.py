"""Images become pixels as the processors of transformers make them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from modelexport.contract import Artifact, Dim, TensorSpec
from modelexport.data import answers
from modelexport.data.images import image_inputs
from modelexport.errors import InputError, SourceError
from modelexport.model import reference

PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "resize": ("ViTImageProcessor", {"size": {"height": 32, "width": 32}}),
    "shortest edge and crop": (
        "CLIPImageProcessor",
        {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}},
    ),
    "crop beyond the edge": (
        "CLIPImageProcessor",
        {"size": {"shortest_edge": 20}, "crop_size": {"height": 32, "width": 32}},
    ),
    "crop by a ratio": ("ConvNextImageProcessor", {"size": {"shortest_edge": 32}, "crop_pct": 0.875}),
    "blue first": (
        "MobileViTImageProcessor",
        {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}},
    ),
}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_pixels_equal_the_processors(kind, tmp_path, transformers, tiny):
    from PIL import Image

    name, settings = PROCESSORS[kind]
    processor = getattr(transformers, name)(**settings)
    ref = tiny.save(tmp_path / "model", "ViTForImageClassification", transformers.ViTConfig(**tiny.PIXELS))
    processor.save_pretrained(ref)
    source = tiny.load(ref)
    artifact = tiny.artifact_of(source, tmp_path / "a")
    paths = [tiny.picture(tmp_path / "up.png"), tiny.picture(tmp_path / "lying.png", 120, 50)]
    got = image_inputs(artifact, paths)["pixel_values"]
    wanted = [np.asarray(processor(Image.open(path), return_tensors="np")["pixel_values"])[0] for path in paths]
    assert got.shape == (2, 3, 32, 32)
    tolerance = 1e-5 if "Pil" in type(processor).__name__ else 0.05
    np.testing.assert_allclose(got, np.stack(wanted), atol=tolerance)


def test_pixels_by_hand(tmp_path, tiny):
    """Against the formula itself: no resize, so that every pixel can be said."""
    path = tiny.picture(tmp_path / "x.png", 5, 4)
    section = {
        "input": "x", "size": None, "crop": [2, 3], "resample": "nearest", "rescale": 1 / 255,
        "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "color": "RGB", "layout": "NCHW",
    }  # fmt: skip
    spec = TensorSpec("x", "float32", (Dim("batch"), 3, 2, 3))
    artifact = Artifact(tmp_path, "onnx", "m", (spec,), (), processing={"image": section})
    raw = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)[1:3, 1:4]
    wanted = ((raw / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]).transpose(2, 0, 1)
    got = image_inputs(artifact, [path])["x"]
    np.testing.assert_allclose(got[0], wanted, atol=1e-6)
    other = replace(
        artifact,
        inputs=(replace(spec, shape=(Dim("batch"), 2, 3, 3), dtype="float16"),),
        processing={"image": {**section, "layout": "NHWC", "color": "BGR", "mean": None, "rescale": None}},
    )
    got = image_inputs(other, [path])["x"]
    assert got.dtype == np.float16
    np.testing.assert_array_equal(got[0], raw[..., ::-1])


def test_image_classification_gives_what_transformers_gives(tmp_path, torch, transformers, tiny):
    ref = tiny.save(tmp_path / "model", "ViTForImageClassification", transformers.ViTConfig(**tiny.PIXELS))
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(ref)
    source = tiny.load(ref)
    assert source.specs == (TensorSpec("pixel_values", "float32", (Dim("batch"), 3, 32, 32), (-1.0, 1.0)),)
    artifact = tiny.artifact_of(source, tmp_path / "a")
    inputs = image_inputs(artifact, [tiny.picture(tmp_path / "x.png", mode="L")])
    outputs = tiny.run(source, inputs)
    model = transformers.AutoModelForImageClassification.from_pretrained(ref).eval()
    with torch.no_grad():
        wanted = model(torch.from_numpy(inputs["pixel_values"])).logits.numpy()
    np.testing.assert_array_equal(outputs["logits"], wanted)
    assert {"cat", "dog", "eel"} >= {answers.readable(artifact, outputs)[0].split()[1]}


def test_a_processor_that_can_not_be_described_is_left_out(tmp_path, transformers, tiny):
    ref = tiny.save(tmp_path, "ViTForImageClassification", transformers.ViTConfig(**tiny.PIXELS))
    size = {"height": 32, "width": 32}
    transformers.LevitImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(ref)
    source = tiny.load(ref)  # Levit resizes to 256/224 of what it says
    assert "image" not in source.processing
    assert "does more than" in source.processing["left_out"]["image"]
    assert source.specs[0].shape == (Dim("batch"), 3, 32, 32)


def test_an_unknown_image_size_must_be_declared(tmp_path, transformers, tiny):
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ref = tiny.save(tmp_path, "ResNetForImageClassification", config)
    with pytest.raises(SourceError, match=r"size that .* takes is written nowhere") as caught:
        tiny.load(ref)
    assert "--input 'pixel_values:float32[batch,3,224,224]'" in caught.value.hint
    source = tiny.load(ref, inputs=("pixel_values:float32[batch,3,64,64]",))
    assert reference.parameters(source.module) == ["pixel_values"]


@pytest.mark.parametrize("content", [None, b"not an image", "truncated"])
def test_bad_images(content, tmp_path, tiny):
    spec = TensorSpec("x", "float32", (Dim("batch"), 3, 2, 3))
    artifact = Artifact(tmp_path, "onnx", "m", (spec,), (), processing={"image": {"input": "x"}})
    path = tmp_path / "x.png"
    if content == "truncated":
        path.write_bytes(tiny.picture(tmp_path / "whole.png").read_bytes()[:500])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.png"):
        image_inputs(artifact, [path])
