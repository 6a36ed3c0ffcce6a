"""Tokenizer, image preprocessing and labels as the plain data that core follows.

Each description is tried before it is kept: it must give what transformers itself gives for the same text
or image. What can't be described is left out, with the reason, since a model fed slightly wrong pixels
answers without complaint.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelexport.errors import SourceError, first_line
from modelexport.toolkit import importable

from .locate import Found

#: model input → what a tokenizer gives for it
TEXT_INPUTS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}

#: without one of these, transformers makes up a tokenizer that knows the special tokens only
_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "*.spm", "*.tiktoken", "merges.txt")

#: tokenizers without a limit say so with a number like this
_NO_LIMIT = 10**9

_PROBES = ("Hello, World! It's 3.14 o'clock", "ÜBER  naïve\tcafé — 東京 😀", "x")


@dataclass
class Processing:
    """What goes into the manifest, and the files that go with it."""

    data: dict[str, Any]
    files: dict[str, Path] = field(default_factory=dict)

    def leave_out(self, section: str, reason: str) -> None:
        self.data.setdefault("left_out", {})[section] = reason


# --------------------------------------------------------------------------------------- text


def tokenizer(found: Found) -> Any:
    """The folder's tokenizer as transformers makes it, or None where the folder holds none.

    Raises SourceError when there is one that can't be loaded: it also decides which inputs the model gets.
    """
    if not any(file for pattern in _VOCABULARIES for file in found.folder.glob(pattern)):
        return None
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(found.folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise SourceError(
            f"the tokenizer of {found.ref} can't be loaded: {type(error).__name__}: {first_line(error)}",
            "it may need another package (sentencepiece, tiktoken); or move its files away to export without it",
        ) from error


def token_limit(tokenizer: Any) -> int | None:
    limit = getattr(tokenizer, "model_max_length", None)
    return int(limit) if limit is not None and 0 < limit < _NO_LIMIT else None


def describe_text(
    processing: Processing,
    found: Found,
    tokenizer: Any,
    inputs: Sequence[str],
    vocabulary: int,
    positions: int | None,
) -> None:
    """Add the `text` section and the tokenizer's files, where tokenizer and model fit each other."""
    if tokenizer is None:
        return processing.leave_out("text", "its source holds no tokenizer")
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        return processing.leave_out("text", f"{type(tokenizer).__name__} can't be written as a tokenizer.json")
    folder = _scratch()
    saved = [Path(file) for file in tokenizer.save_pretrained(folder) if Path(file).is_file()]
    if reason := _differs(tokenizer, folder / "tokenizer.json", vocabulary):
        return processing.leave_out("text", reason)
    settings = _sentence_settings(found)
    limits = (settings.get("max_seq_length"), token_limit(tokenizer), positions)
    processing.data["text"] = {
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
    processing.files |= {f"processing/{file.name}": file for file in saved}
    return None


def _scratch() -> Path:
    """A folder that lasts as long as the process: the files are copied when the artifact is written."""
    folder = Path(tempfile.mkdtemp(prefix="modelexport-tokenizer-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


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


def _sentence_settings(found: Found) -> Mapping[str, Any]:
    """What sentence-transformers does to a text before tokenizing it."""
    for file in (found.folder / "sentence_bert_config.json", found.root / "sentence_bert_config.json"):
        if file.is_file():
            settings = _read_json(file)
            return settings if isinstance(settings, dict) else {}
    return {}


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{file} is damaged: {first_line(error)}", "get the file again") from error


# --------------------------------------------------------------------------------------- images


def describe_image(processing: Processing, found: Found, channels: int) -> None:
    """Add the `image` section, where the folder has a processor and a description reproduces it."""
    if not (found.folder / "preprocessor_config.json").is_file():
        return processing.leave_out("image", "its source holds no preprocessor_config.json")
    if not importable("PIL"):
        return processing.leave_out("image", "Pillow was not installed when it was exported")
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(
            found.folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # noqa: BLE001  any processor may fail in its own way; the reason is kept
        return processing.leave_out(
            "image", f"its processor can't be loaded: {type(error).__name__}: {first_line(error)}"
        )
    section = _image_section(processor, channels)
    name = type(processor).__name__
    if section is None:
        return processing.leave_out("image", f"{name} gives images of different sizes")
    if reason := _image_differs(processor, section):
        return processing.leave_out("image", f"{name} {reason}")
    processing.data["image"] = section
    return None


def image_size(section: Mapping[str, Any] | None, config: Any) -> tuple[int, int] | None:
    """Height and width of the model's input: as its processor makes them, else as its configuration says."""
    made = (section["crop"] or section["size"]) if section is not None else getattr(config, "image_size", None)
    if isinstance(made, int):
        return made, made
    return (int(made[0]), int(made[1])) if isinstance(made, (list, tuple)) and len(made) == 2 else None


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


def describe_labels(processing: Processing, config: Any) -> None:
    """Add the class names, where they are more than numbers, and how scores are read off the logits."""
    names = {int(index): str(name) for index, name in (getattr(config, "id2label", None) or {}).items()}
    if sorted(names) == list(range(len(names))) and any(name != f"LABEL_{i}" for i, name in names.items()):
        processing.data["labels"] = {"logits": [names[index] for index in range(len(names))]}
    kind = getattr(config, "problem_type", None)
    if kind == "multi_label_classification":
        processing.data["scores"] = "sigmoid"
    elif kind == "regression" or len(names) == 1:
        processing.data["scores"] = "none"
    else:
        processing.data["scores"] = "softmax"
