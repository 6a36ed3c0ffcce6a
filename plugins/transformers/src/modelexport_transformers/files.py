"""The JSON files in a model's folder, as transformers and sentence-transformers write them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelexport.errors import SourceError, UnsafeFileError, first_line
from modelexport.toolkit import open_regular

#: describes the model; says how ModelOpt has quantized it
CONFIG, QUANTIZATION = "config.json", "hf_quant_config.json"

#: lists the parts of a sentence-transformers pipeline; says what is done to a text before it is tokenized
MODULES, SENTENCES = "modules.json", "sentence_bert_config.json"

#: the most bytes of a JSON file
LIMIT = 256 << 20

#: describes how images become pixels
PROCESSOR = "preprocessor_config.json"


def read_json(file: Path) -> Any:
    """What a JSON file holds. Raises SourceError where it is missing or damaged."""
    try:
        with open_regular(file, LIMIT, SourceError) as stream:
            return json.loads(stream.read().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(file, error) from error


def damaged(file: Path, error: Exception) -> SourceError:
    """The error for a file that can't be read, or holds something else than its name says."""
    what = "damaged" if file.exists() else "missing"
    return SourceError(f"{file} is {what}: {first_line(error)}", "get the file again")


def config(folder: Path) -> Mapping[str, Any] | None:
    """The folder's config.json, or None where it is another program's.

    Raises SourceError for one that can't be read beside a model's weights: it is transformers' then.
    """
    try:
        values = read_json(folder / CONFIG)
    except SourceError:
        if any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin")):
            raise
        return None
    return values if isinstance(values, dict) and {"model_type", "architectures"} & set(values) else None


def sentence_modules(root: Path) -> Sequence[tuple[str, str]]:
    """The (class name, subfolder) pairs of a sentence-transformers pipeline, in order; empty where there is none.

    Raises SourceError for a damaged modules.json, and for one that leads out of its folder; UnsafeFileError where
    a link in the folder does.
    """
    file = root / MODULES
    if not file.is_file():
        return ()
    try:
        pairs = [(str(entry["type"]).rpartition(".")[2], str(entry["path"])) for entry in read_json(file)]
    except (KeyError, TypeError) as error:
        raise damaged(file, error) from error
    for _, path in pairs:
        if not path.isprintable() or Path(path).is_absolute() or ".." in Path(path).parts:
            raise SourceError(f"{file} names {path!r}, outside its folder", "don't use this model")
        if not _is_below(root / path, root):
            raise UnsafeFileError(
                f"{root / path} is a link that leads out of {root}", "put the folder itself there"
            )
    return pairs


def _is_below(folder: Path, root: Path) -> bool:
    """Whether the folder lies in the root, whatever links lead there."""
    return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(root))  # resolve() raises for circles


def sentence_settings(*folders: Path) -> Mapping[str, Any]:
    """What sentence-transformers does to a text before tokenizing it, from the first folder that says it."""
    for folder in folders:
        if (folder / SENTENCES).is_file():
            settings = read_json(folder / SENTENCES)
            return settings if isinstance(settings, dict) else {}
    return {}
