"""Tokenizer, image preprocessing and labels as the plain data that core follows.

Each description is tried before it is kept: it must give what transformers itself gives for the same text
or image. What can't be described is left out, with the reason, since a model fed slightly wrong pixels
answers without complaint.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from modelexport.errors import SourceError, first_line
from modelexport.toolkit import importable, scratch

from . import files
from .locate import Checkpoint

#: model input → what a tokenizer gives for it
TEXT_INPUTS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}

#: without one of these, transformers makes up a tokenizer that knows the special tokens only
_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "*.spm", "*.tiktoken", "merges.txt")

#: tokenizers without a limit say so with a number like this
_NO_LIMIT = 10**9

_PROBES = ("Hello, World! It's 3.14 o'clock", "ÜBER  naïve\tcafé — 東京 😀", "x")


@dataclass(frozen=True)
class Processing:
    """Sections for the manifest, and the files that go with them; `|` puts two together."""

    sections: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)

    def __or__(self, other: Processing) -> Processing:
        return Processing({**self.sections, **other.sections}, {**self.files, **other.files})


def _left_out(section: str, reason: str) -> Processing:
    return Processing({"left_out": {section: reason}})


# --------------------------------------------------------------------------------------- text


def tokenizer(checkpoint: Checkpoint) -> Any:
    """The folder's tokenizer as transformers makes it, or None where the folder holds none.

    Raises SourceError when there is one that can't be loaded: it also decides which inputs the model gets.
    """
    if not any(file for pattern in _VOCABULARIES for file in checkpoint.folder.glob(pattern)):
        return None
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise SourceError(
            f"the tokenizer of {checkpoint.ref} can't be loaded: {type(error).__name__}: {first_line(error)}",
            "it may need another package (sentencepiece, tiktoken); or move its files away to export without it",
        ) from error


def token_limit(tokenizer: Any) -> int | None:
    """How many tokens the tokenizer lets through; None where it says no limit."""
    limit = getattr(tokenizer, "model_max_length", None)
    return int(limit) if limit is not None and 0 < limit < _NO_LIMIT else None


def texts(
    checkpoint: Checkpoint, tokenizer: Any, inputs: Sequence[str], vocabulary: int, positions: int | None
) -> Processing:
    """The `text` section and the tokenizer's files, where tokenizer and model fit each other.

    `inputs` are the model's, `vocabulary` the tokens that it knows, `positions` how many of them it takes.
    """
    if tokenizer is None:
        return _left_out("text", "its source holds no tokenizer")
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        return _left_out("text", f"{type(tokenizer).__name__} can't be written as a tokenizer.json")
    folder = _scratch()
    saved = [Path(file) for file in tokenizer.save_pretrained(folder) if Path(file).is_file()]
    if reason := _differs(tokenizer, folder / "tokenizer.json", vocabulary):
        return _left_out("text", reason)
    settings = files.sentence_settings(checkpoint.folder, checkpoint.root)
    limits = (settings.get("max_seq_length"), token_limit(tokenizer), positions)
    section = {
        "tokenizer": "processing/tokenizer.json",
        "max_length": min((limit for limit in limits if limit is not None), default=None),
        "pad_id": tokenizer.pad_token_id,
        "pad_token": tokenizer.pad_token,
        "pad_type_id": getattr(tokenizer, "pad_token_type_id", 0),
        "padding_side": tokenizer.padding_side,
        "truncation_side": tokenizer.truncation_side,
        "mask_token": getattr(tokenizer, "mask_token", None),
        "lowercase": bool(settings.get("do_lower_case", False)),
        "inputs": {name: kind for name, kind in TEXT_INPUTS.items() if name in inputs},
    }
    return Processing({"text": section}, {f"processing/{file.name}": file for file in saved})


def _scratch() -> Path:
    """A folder that lasts as long as the process: the files are copied when the artifact is written."""
    return Path(tempfile.mkdtemp(dir=_kept(os.getpid())))


@cache
def _kept(process: int) -> Path:
    """The one folder for all of them, of this process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(scratch("tokenizer"))


def _differs(tokenizer: Any, file: Path, vocabulary: int) -> str:
    """Why the saved tokenizer does not stand for the loaded one, or for the model; empty when it does."""
    from tokenizers import Tokenizer

    if not file.is_file():
        return f"{type(tokenizer).__name__} can't be written as a tokenizer.json"
    saved = Tokenizer.from_file(str(file))
    saved.no_padding()
    saved.no_truncation()
    highest = max(saved.get_vocab(with_added_tokens=True).values(), default=0)
    if highest >= vocabulary:
        return f"its tokenizer has tokens up to {highest}, the model knows {vocabulary}"
    if any(list(tokenizer(text)["input_ids"]) != saved.encode(text).ids for text in _PROBES):
        return f"{type(tokenizer).__name__} does more than a tokenizer.json can say"
    return ""


# --------------------------------------------------------------------------------------- images


def images(checkpoint: Checkpoint, channels: int) -> Processing:
    """The `image` section, where the folder has a processor and a description reproduces it."""
    if not (checkpoint.folder / files.PROCESSOR).is_file():
        return _left_out("image", f"its source holds no {files.PROCESSOR}")
    if not importable("PIL"):
        return _left_out("image", "Pillow was not installed when it was exported")
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # noqa: BLE001  any processor may fail in its own way; the reason is kept
        return _left_out("image", f"its processor can't be loaded: {type(error).__name__}: {first_line(error)}")
    section, name = _image_section(processor, channels), type(processor).__name__
    if section is None:
        return _left_out("image", f"{name} gives images of different sizes")
    if reason := _image_differs(processor, section):
        return _left_out("image", f"{name} {reason}")
    return Processing({"image": section})


def image_size(section: Mapping[str, Any] | None, config: Any) -> tuple[int, int] | None:
    """Height and width of the model's input: as its processor makes them, else as its configuration says."""
    size = (section["crop"] or section["size"]) if section is not None else getattr(config, "image_size", None)
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, (list, tuple)) and len(size) == 2 else None


def pixel_range(section: Mapping[str, Any] | None) -> tuple[float, float] | None:
    """The values that pixels have after preprocessing, over all channels."""
    if section is None:
        return None
    high = 255 * section["rescale"] if section["rescale"] is not None else 255.0
    if section["mean"] is None:
        return 0.0, round(high, 6)
    pairs = list(zip(section["mean"], section["std"], strict=True))
    return (
        round(min((0 - mean) / std for mean, std in pairs), 6),
        round(max((high - mean) / std for mean, std in pairs), 6),
    )


def _image_section(processor: Any, channels: int) -> dict[str, Any] | None:
    """A processor's settings in our words; None when its images don't come out at one size."""
    from PIL import Image

    size = _edges(processor, "size") if getattr(processor, "do_resize", False) else {}
    crop = _edges(processor, "crop_size") if getattr(processor, "do_center_crop", False) else {}
    edge = size.get("shortest_edge")
    resized: Any = [size["height"], size["width"]] if "height" in size else None
    cropped = [crop["height"], crop["width"]] if "height" in crop else None
    if edge is not None:
        resized = {"shortest_edge": edge}
        if (ratio := getattr(processor, "crop_pct", None)) is not None:  # ConvNeXt's way to ask for a crop
            whole = edge >= 384
            resized = [edge, edge] if whole else {"shortest_edge": int(edge / ratio)}
            cropped = None if whole else [edge, edge]
    if cropped is None and not isinstance(resized, list):
        return None
    normalize = bool(getattr(processor, "do_normalize", False))
    flipped = bool(getattr(processor, "do_flip_channel_order", False))
    return {
        "input": "pixel_values",
        "size": resized,
        "crop": cropped,
        "resample": Image.Resampling(int(getattr(processor, "resample", None) or 0)).name.lower(),
        "rescale": float(processor.rescale_factor) if getattr(processor, "do_rescale", False) else None,
        "mean": _per_channel(processor.image_mean, channels) if normalize else None,
        "std": _per_channel(processor.image_std, channels) if normalize else None,
        "color": "L" if channels == 1 else "BGR" if flipped else "RGB",
        "layout": "NCHW",
    }


def _edges(processor: Any, name: str) -> dict[str, int]:
    """`size` and `crop_size` come as a dict or as an object; only what is set counts."""
    size = getattr(processor, name, None)
    keys = ("height", "width", "shortest_edge", "longest_edge")
    values = {key: size.get(key) if isinstance(size, Mapping) else getattr(size, key, None) for key in keys}
    return {key: int(value) for key, value in values.items() if value is not None}


def _per_channel(value: Any, channels: int) -> list[float]:
    return [float(v) for v in value] if isinstance(value, (list, tuple)) else [float(value)] * channels


def _image_differs(processor: Any, section: Mapping[str, Any]) -> str:
    """How the section falls short of the processor, on noise upright and lying; empty when it doesn't.

    Two levels of 255 are granted to another library's rounding.
    """
    import numpy as np
    from modelexport.toolkit import pixels
    from PIL import Image

    scale = section["rescale"] if section["rescale"] is not None else 1.0
    granted = 2 * scale / min(section["std"] or [1.0]) + 1e-6
    generator = np.random.default_rng(0)
    for height, width in ((97, 61), (61, 98)):
        noise = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = Image.fromarray(noise).convert("L" if section["color"] == "L" else "RGB")
        try:
            wanted = np.asarray(processor(images=image, return_tensors="np")["pixel_values"])[0]
        except Exception as error:  # noqa: BLE001  any processor may fail in its own way; the reason is kept
            return f"fails on an image: {type(error).__name__}: {first_line(error)}"
        got = pixels(image, section)
        if wanted.shape != got.shape or float(np.abs(wanted - got).max()) > granted:
            return "does more than the description can say"
    return ""


# --------------------------------------------------------------------------------------- labels


def labels(config: Any) -> Processing:
    """The class names, where they are more than numbers, and how scores are read off the logits."""
    names = {int(index): str(name) for index, name in (getattr(config, "id2label", None) or {}).items()}
    named = sorted(names) == list(range(len(names))) and any(name != f"LABEL_{i}" for i, name in names.items())
    classes = {"labels": {"logits": [names[index] for index in range(len(names))]}} if named else {}
    return Processing({**classes, "scores": _scores(getattr(config, "problem_type", None), len(names))})


def _scores(problem: str | None, classes: int) -> str:
    """What turns logits into scores."""
    if problem == "multi_label_classification":
        return "sigmoid"
    return "none" if problem == "regression" or classes == 1 else "softmax"
