"""From a reference to a folder on disk: a folder as it is, or the snapshot of an id in the local cache.

Nothing is fetched unless the user allows it, and nothing heavier than huggingface_hub is imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelexport.contract import stage
from modelexport.errors import SourceError, first_line
from modelexport.toolkit import importable

from . import files

INSTALL = "pip install 'modelexport-transformers[export]'"

#: what the hub takes as an id: NAME or OWNER/NAME
_ID = re.compile(r"[A-Za-z0-9_][\w.-]{0,95}(/[A-Za-z0-9_][\w.-]{0,95})?", re.ASCII)

#: a reference that ends like this means a file, whatever else it looks like
_FILES = frozenset(
    """
    .bin .ckpt .engine .gguf .h5 .hdf5 .json .keras .mlmodel .mlpackage .npz .onnx .pb .pkl .pt .pt2 .pte .pth .py
    .safetensors .tflite .txt .xml .zip
    """.split()  # noqa: SIM905  a paragraph, not a column
)

#: what a download takes, in turns: the second only where the first brings no weights
_WANTED = ("*.json", "*.txt", "*.model", "*.safetensors")
_LEGACY = ("*.bin",)
_UNWANTED = ("onnx/*", "openvino/*", "tf_model*", "flax_model*", "rust_model*", "coreml/*", "*/onnx/*")


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk: `root` as the user knows it, `folder` where its config.json and weights are.

    The two differ in some sentence-transformers folders, which keep the transformer in a subfolder.
    """

    ref: str
    name: str
    root: Path
    folder: Path
    config: Mapping[str, Any]


def find(ref: str, allow_download: bool = False) -> Checkpoint | None:
    """The folder that `ref` means, or None when it is neither a model's folder nor an id that is at hand.

    Raises SourceError for an OWNER/NAME that is not in the cache, since nothing else looks like that, and
    for a folder whose config.json is damaged.
    """
    path = Path(ref)
    if path.is_dir():
        return _in_folder(ref, path.resolve().name, path)
    if path.exists() or path.suffix.lower() in _FILES or not _is_id(ref):
        return None
    root = _cached(ref) or (_download(ref) if allow_download else None)
    if root is None:
        if "/" in ref:
            raise _not_cached(ref)
        return None
    checkpoint = _in_folder(ref, ref.rpartition("/")[2], root)
    if checkpoint is None:
        raise SourceError(f"{ref} is in the local cache, but is no transformers model: {root}", "give another id")
    return checkpoint


def _is_id(ref: str) -> bool:
    return _ID.fullmatch(ref) is not None and "--" not in ref and ".." not in ref and ref[-1] not in ".-"


def _in_folder(ref: str, name: str, root: Path) -> Checkpoint | None:
    for folder in (root, _transformer_folder(root)):
        if folder is None or not (folder / files.CONFIG).is_file():
            continue
        config = files.config(folder)
        if config is not None:
            return Checkpoint(ref, name, root, folder, config)
    return None


def _transformer_folder(root: Path) -> Path | None:
    """Where a sentence-transformers folder keeps its transformer."""
    kind, path = next(iter(files.sentence_modules(root)), ("", ""))
    return root / path if kind == "Transformer" else None


# --------------------------------------------------------------------------------------- the hub's cache


def _cached(ref: str) -> Path | None:
    """The snapshot folder of an id in the local cache, or None."""
    if not importable("huggingface_hub"):
        if "/" in ref:
            raise SourceError(
                f"no folder {ref}; to look for a cached model of that id takes transformers", INSTALL
            )
        return None
    from huggingface_hub import constants, try_to_load_from_cache

    for file in (files.CONFIG, files.MODULES):
        cached = try_to_load_from_cache(ref, file, cache_dir=constants.HF_HUB_CACHE)
        if isinstance(cached, str):
            return Path(cached).parent
    return None


def _download(ref: str) -> Path:
    """Fetch what loading takes, safetensors before pickles. Raises SourceError from whatever went wrong."""
    from huggingface_hub import snapshot_download

    stage(f"download {ref}")
    try:
        root = Path(snapshot_download(ref, allow_patterns=list(_WANTED), ignore_patterns=list(_UNWANTED)))
        if not any(root.rglob("*.safetensors")):
            snapshot_download(ref, allow_patterns=list(_LEGACY), ignore_patterns=list(_UNWANTED))
    except Exception as error:
        raise SourceError(
            f"{ref} can't be downloaded: {type(error).__name__}: {first_line(error)}",
            "check the id and the network; `hf auth login` for models behind a login",
        ) from error
    return root


def _not_cached(ref: str) -> SourceError:
    from huggingface_hub import constants

    return SourceError(
        f"there is no folder {ref}, and no model of that id in the local cache {constants.HF_HUB_CACHE}",
        "check the path, or add --allow-download to fetch it from the Hugging Face hub",
    )
