"""Declarations of models, and files of data for them, that the tests of the data room share."""

from pathlib import Path

import numpy as np
import pytest
from modelexport.contract import Artifact, TensorSpec, unify_dims

WORDS = ["[PAD]", "[CLS]", "[SEP]", "a", "b", "c", "d", "e", "f", "g", "h"]


def declare(*declarations, path=".", **processing):
    """An artifact that takes these inputs; nothing of it is on disk."""
    specs = unify_dims([TensorSpec.parse(text) for text in declarations])
    return Artifact(Path(path), "toy", "model", specs, (), processing=processing)


ONE = declare("x:float32[batch,3]")
TWO = declare("x:float32[batch=1..4,3]", "ids:int64[batch=1..4,seq=1..6]=0..9")


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """`texts(batch="batch", high=10, pad_id=0)`: a model whose tokenizer makes one token a letter."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))

    def make(batch="batch", high=10, pad_id=0, seq="seq=1..8"):
        fields = {"ids": "ids", "mask": "attention_mask", "types": "type_ids"}
        text = {"tokenizer": "tokenizer.json", "pad_id": pad_id, "inputs": fields}
        return declare(
            f"ids:int64[{batch},{seq}]=0..{high}",
            f"mask:int64[{batch},{seq}]=mask",
            f"types:int64[{batch},{seq}]=0..1",
            path=folder,
            text=text,
        )

    return make


def image(size=None, batch="batch", shape="3,h,w"):
    """A model that takes images, scaled to 0..1."""
    section = {
        "input": "x", "size": size, "crop": None, "resample": "nearest", "rescale": 1 / 255,
        "mean": None, "std": None, "color": "RGB", "layout": "NCHW",
    }  # fmt: skip
    return declare(f"x:float32[{batch},{shape}]", image=section)


def save_pictures(folder, count, size=(4, 5)):
    """Pictures in two folders; the red of each is its number."""
    from PIL import Image

    for index in range(count):
        place = folder / f"{index % 2}" / f"{index:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (index, 0, 255)).save(place)
    return folder


def save_rows(path, count, **more):
    """Rows of `x` that count on: [0, 1, 2], [3, 4, 5]…"""
    np.savez(path, x=np.arange(count * 3, dtype=np.float32).reshape(count, 3), **more)
    return path


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def firsts(samples, name="x"):
    """The first value of every sample, which tells which row it is."""
    return [sample[name].ravel()[0].item() for sample in samples]


def same(one, other):
    pairs = list(zip(one, other, strict=True))
    return all(np.array_equal(a[name], b[name]) for a, b in pairs for name in a)
