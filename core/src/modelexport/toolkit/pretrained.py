"""A folder as transformers saves models in, made by somebody else: refused where it leads out of itself.

transformers 5 runs no code of a folder unless it is told to, and never is. But a name in config.json can make it
fetch a kernel from the hub, an adapter takes its weights from wherever it says, and an index of weights names
files anywhere on the disk. None of these has a flag that lets it through: what they bring is not in the folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import SourceError, UnsafeFileError, first_line
from ..regular import check_regular, open_regular

#: the most bytes of what describes a model or a tokenizer, which is read as a whole
_LIMIT = 256 << 20

#: how attention and experts may be computed: by PyTorch; anything else is fetched, or is another package's
_COMPUTED = frozenset((None, "eager", "sdpa", "flex_attention", "grouped_mm", "batched_mm"))
_IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")

#: what transformers would fetch, or take from elsewhere
_FETCHED = ("use_kernels", "kernel_config")

#: what transformers and tokenizers read as a whole
_DESCRIBING = frozenset(
    (".json", ".txt", ".model", ".jinja", ".spm", ".tiktoken", ".codes", ".vocab", ".tokenizer", ".bpe")
)


def check_pretrained(folder: Path) -> None:
    """Raise UnsafeFileError where loading `folder` with transformers would fetch code, or read files elsewhere.

    Raises SourceError for an adapter, whose model is elsewhere, and for what can't be read: files that are no
    regular ones, or too large, or no JSON. Every file of the folder is looked at: which ones are opened is up to
    the class of the tokenizer.
    """
    for file in _files(folder):
        check_regular(file, _LIMIT if file.suffix in _DESCRIBING else None, SourceError)
        if not _inside(file, folder):
            raise UnsafeFileError(f"{file} is a link that leads out of its folder", "put the file itself there")
    if (folder / "adapter_config.json").exists():
        raise SourceError(f"{folder} holds an adapter of another model", "merge the two, and export the result")
    for file in folder.glob("*.json"):
        if file.name.endswith("config.json"):
            _check_config(file, _parsed(file))
        elif file.name.endswith(".index.json"):
            _check_index(file, _parsed(file))


def _files(folder: Path) -> Iterator[Path]:
    """What lies in the folder, and the templates of chats."""
    for place in (folder, folder / "additional_chat_templates"):
        if place.is_dir():
            yield from (file for file in sorted(place.iterdir()) if not file.is_dir())


def _inside(file: Path, folder: Path) -> bool:
    """Whether the file lies in the folder; the hub's cache keeps the contents beside the folders of revisions."""
    home = folder.resolve()
    revisions = (place for place in (home, *home.parents) if place.parent.name == "snapshots")
    homes = [home, *(place.parent.parent / "blobs" for place in revisions)]
    return any(file.resolve().is_relative_to(place) for place in homes)


def _parsed(file: Path) -> Any:
    """What a JSON file holds, Infinity and all, which some configurations have."""
    try:
        with open_regular(file, _LIMIT, SourceError) as stream:
            return json.loads(stream.read().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{file} is damaged: {first_line(error)}", "get the file again") from error


def _check_config(file: Path, value: Any) -> None:
    """No name in a configuration, or in one within it, stands for something to fetch."""
    for key, entry in _entries(value):
        if key.strip("_").removesuffix("_internal") in _IMPLEMENTATIONS:
            named = [*entry.values()] if isinstance(entry, dict) else [entry]
            strange = [text for text in named if not isinstance(text, (str, type(None))) or text not in _COMPUTED]
            if strange:
                raise UnsafeFileError(
                    f"{file} asks for {str(strange[0])[:80]!r} to compute ({key}), which transformers would fetch",
                    f"take {key} out of the file: PyTorch computes the same",
                )
        elif key in _FETCHED and entry:
            raise UnsafeFileError(
                f"{file} asks for code from the hub ({key}), which is never run", f"take {key} out of the file"
            )
        elif key == "transformers_weights" and not _is_name(entry):
            raise UnsafeFileError(f"{file} names weights outside its folder: {str(entry)[:80]!r}", "don't use it")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """The keys and values of a JSON value, and of all in it."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from one.items()
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _check_index(file: Path, value: Any) -> None:
    """The files that an index names lie beside it."""
    names = value.get("weight_map") if isinstance(value, dict) else None
    for name in names.values() if isinstance(names, dict) else ():
        if not _is_name(name):
            raise UnsafeFileError(f"{file} names a file outside its folder: {str(name)[:80]!r}", "don't use it")


def _is_name(value: Any) -> bool:
    return value is None or (
        isinstance(value, str) and value != "" and Path(value).name == value and "\\" not in value
    )
