"""`--weights`: lay a state dict over a module, without ever unpickling unless told to.

Reads safetensors, a sharded index (`*.index.json`, safetensors or torch), and what
`torch.load(weights_only=True)` reads.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import errors
from ..errors import SourceError, UnsafeFileError
from ..jsontext import read_json
from ..plugins import known
from ..plugins.installed import importable
from ..regular import check_path, check_regular

#: keys under which training frameworks keep the state dict inside a checkpoint
_NESTED = ("state_dict", "model_state_dict", "model")

#: how much larger than the file its contents may be, beside twice as large
_SLACK = 64 << 20


def load_into(module: Any, path: Path, allow_pickle: bool = False) -> None:
    """Load the weights at `path` into `module`, strictly: every name and shape must fit.

    Raises SourceError naming what does not fit, UnsafeFileError for a file that needs unpickling.
    """
    state = read(path, allow_pickle)
    wanted = module.state_dict()
    held = {wanted[name].data_ptr() for name in state if name in wanted}  # a tied weight is saved once
    missing = [name for name, tensor in wanted.items() if name not in state and tensor.data_ptr() not in held]
    unexpected = [name for name in state if name not in wanted]
    if missing or unexpected:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:3])}{'…' if len(names) > 3 else ''})"
            for what, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise SourceError(f"{path} does not fit the model: {', '.join(parts)}", _prefix_hint(missing, unexpected))
    for name, tensor in state.items():
        if tuple(tensor.shape) != tuple(wanted[name].shape):
            raise SourceError(
                f"{path} does not fit the model: {name} has shape {list(tensor.shape)}, "
                f"the model {list(wanted[name].shape)}",
                "build the model with the configuration it was trained with",
            )
    module.load_state_dict(state, strict=False)


def _prefix_hint(missing: list[str], unexpected: list[str]) -> str:
    for name in unexpected:
        prefix, _, rest = name.partition(".")
        if rest in missing:
            return f"every name begins with '{prefix}.': save the inner module's state dict (model.{prefix})"
    return "build the model with the configuration it was trained with"


def read(path: Path, allow_pickle: bool = False) -> dict[str, Any]:
    """The tensors of a checkpoint by name."""
    path = locate(path)
    check_regular(path, kind=SourceError)
    if path.name.endswith(".index.json"):
        return _read_shards(path, allow_pickle)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_torch(path, allow_pickle)


def check(path: Path) -> None:
    """Raise SourceError where no weights are at `path`, as far as the head of the file tells: before any work."""
    file = locate(path)
    if file.name.endswith(".index.json"):
        for shard in _shards(file):
            check(shard)
    elif file.suffix == ".safetensors":
        _check_header(file)
    elif not _pickled(file) or (zipfile.is_zipfile(file) and not _holds_pickle(file)):
        raise _no_weights(file)


def _check_header(file: Path) -> None:
    """A safetensors file begins with the length of its header, which is JSON of the tensors' dtypes and places."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        first = stream.read(1)
    if first != b"{" or length > file.stat().st_size - 8:
        raise SourceError(f"{file} is damaged, or no safetensors file: it has no header", "get the file again")


def _holds_pickle(file: Path) -> bool:
    """Whether an archive is one that torch.save writes, and not arrays of NumPy or whatever else is zipped."""
    with zipfile.ZipFile(file) as archive:
        return any(name.rpartition("/")[2] == "data.pkl" for name in archive.namelist())


def _no_weights(file: Path) -> SourceError:
    known_as = {".py": "is code", ".npz": "holds arrays of NumPy"}
    what = known_as.get(file.suffix, "is nothing that torch.save writes")
    return SourceError(
        f"{file} {what}: weights are a .safetensors file, an index of shards, or a state dict",
        "give the file that training wrote; torch.save(model.state_dict(), …) writes one",
    )


def locate(path: Path) -> Path:
    """The file that is meant by `path`, which may be a folder. Raises SourceError where there is none."""
    check_path(path, SourceError)
    if path.is_dir():
        path = _index_in(path)
    if not path.exists():
        raise SourceError(f"no weights at {path}", "give a .safetensors file, an index of shards, or a state dict")
    check_regular(path, kind=SourceError)
    return path


def _index_in(folder: Path) -> Path:
    for pattern in ("*.safetensors.index.json", "*.safetensors", "*.index.json", "*.bin", "*.pt", "*.pth"):
        if indexes := sorted(folder.glob(pattern)):
            return indexes[0]
    raise SourceError(f"no weights in the folder {folder}", "give the file itself")


def _read_shards(index: Path, allow_pickle: bool) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for shard in _shards(index):
        state |= read(shard, allow_pickle)
    return state


def _shards(index: Path) -> list[Path]:
    """The files that an index names, each beside it. Raises SourceError."""
    data = read_json(index, SourceError, "it needs a 'weight_map'")
    files = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(files, dict) or not all(isinstance(shard, str) for shard in files.values()):
        raise SourceError(f"{index} is no index of weights", "it needs a 'weight_map': the file of every tensor")
    shards = sorted(set(files.values()))
    for shard in shards:
        if Path(shard).name != shard or shard.endswith(".json") or not shard:
            raise SourceError(f"{index} names the shard {shard!r} outside its folder", "don't use this file")
    return [index.with_name(shard) for shard in shards]


def _read_safetensors(path: Path) -> dict[str, Any]:
    if not importable("safetensors"):
        raise SourceError(f"reading {path} needs safetensors", known.MODULES["safetensors"])
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except Exception as error:
        raise SourceError(f"{path} is damaged: {errors.first_line(error)}", "get the file again") from error


def _read_torch(path: Path, allow_pickle: bool) -> dict[str, Any]:
    import pickle

    import torch

    if not allow_pickle:
        _check_expansion(path)
    try:
        value = torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except pickle.UnpicklingError as error:
        if not _pickled(path):
            raise _no_weights(path) from error
        raise UnsafeFileError(
            f"{path} can only be read by unpickling it, which runs whatever code it holds",
            "save its state dict as safetensors; if you trust its author, add --allow-pickle",
        ) from error
    except Exception as error:
        raise SourceError(f"{path} is damaged: {errors.first_line(error)}", "get the file again") from error
    return _state_in(value, path)


def is_pickled_model(path: Path) -> bool:
    """Whether the file is a module that torch.save pickled whole, by the classes that it names; none is loaded."""
    if not path.is_file() or not _pickled(path):
        return False
    import pickle

    from torch.serialization import get_unsafe_globals_in_checkpoint

    try:
        names = get_unsafe_globals_in_checkpoint(path)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError):
        return False  # it is nothing that torch.save writes
    return any(name.startswith("torch.nn.modules.") for name in names)


def _check_expansion(path: Path) -> None:
    """Raise SourceError for an archive whose members are packed: torch stores them as they are, and reads any."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # an older file, or a damaged one, which torch says better
    if size > 2 * path.stat().st_size + _SLACK:
        raise SourceError(
            f"{path} would take {size} bytes, packed into {path.stat().st_size}",
            "save it with torch.save; if you trust its author, add --allow-pickle",
        )


def _pickled(path: Path) -> bool:
    """Whether the file is a pickle, or an archive around one, as torch.save writes them."""
    with path.open("rb") as stream:
        return stream.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def _state_in(value: Any, path: Path) -> dict[str, Any]:
    import torch

    if isinstance(value, torch.nn.Module):
        return dict(value.state_dict())
    if isinstance(value, Mapping):
        for key in _NESTED:
            if isinstance(value.get(key), Mapping):
                return _state_in(value[key], path)
        if value and all(isinstance(tensor, torch.Tensor) for tensor in value.values()):
            return dict(value)
    raise SourceError(f"{path} holds no state dict", "save it with torch.save(model.state_dict(), …)")
