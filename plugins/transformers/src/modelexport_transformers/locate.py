"""From a reference to a folder on disk: a folder as it is, or the snapshot of an id in the local cache.

Nothing is fetched unless the user allows it, and nothing heavier than huggingface_hub is imported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelexport.errors import SourceError, first_line
from modelexport.toolkit import importable

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
class Found:
    """A model on disk: `root` as the user knows it, `folder` where its config.json and weights are.

    The two differ in some sentence-transformers folders, which keep the transformer in a subfolder.
    """

    ref: str
    name: str
    root: Path
    folder: Path
    config: Mapping[str, Any]


def find(ref: str, allow_download: bool = False) -> Found | None:
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
    found = _in_folder(ref, ref.rpartition("/")[2], root)
    if found is None:
        raise SourceError(f"{ref} is in the local cache, but is no transformers model: {root}", "give another id")
    return found


def _is_id(ref: str) -> bool:
    return _ID.fullmatch(ref) is not None and "--" not in ref and ".." not in ref and ref[-1] not in ".-"


def _in_folder(ref: str, name: str, root: Path) -> Found | None:
    for folder in (root, _transformer_folder(root)):
        if folder is None or not (folder / "config.json").is_file():
            continue
        config = _read_config(folder)
        if config is not None:
            return Found(ref, name, root, folder, config)
    return None


def _read_config(folder: Path) -> Mapping[str, Any] | None:
    """config.json, when it is one of transformers. One that can't be read counts as such beside weights."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        if any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin")):
            raise SourceError(f"{file} is damaged: {first_line(error)}", "get the file again") from error
        return None
    return config if isinstance(config, dict) and {"model_type", "architectures"} & set(config) else None


def _transformer_folder(root: Path) -> Path | None:
    """Where a sentence-transformers folder keeps its transformer."""
    first = next(iter(sentence_modules(root)), None)
    return root / first[1] if first is not None and first[0] == "Transformer" else None


def sentence_modules(root: Path) -> Sequence[tuple[str, str]]:
    """The (class name, subfolder) pairs in modules.json, in order; empty where there is none."""
    file = root / "modules.json"
    if not file.is_file():
        return ()
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        pairs = [(str(entry["type"]).rpartition(".")[2], str(entry["path"])) for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{file} is damaged: {first_line(error)}", "get the file again") from error
    for _, path in pairs:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise SourceError(f"{file} names {path!r}, outside its folder", "don't use this model")
    return pairs


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

    for file in ("config.json", "modules.json"):
        cached = try_to_load_from_cache(ref, file, cache_dir=constants.HF_HUB_CACHE)
        if isinstance(cached, str):
            return Path(cached).parent
    return None


def _download(ref: str) -> Path:
    """Fetch what loading takes, safetensors before pickles. Raises SourceError from whatever went wrong."""
    from huggingface_hub import snapshot_download

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
