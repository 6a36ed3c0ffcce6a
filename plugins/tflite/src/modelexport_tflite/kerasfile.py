"""A `.keras` file made by somebody else: refused where Keras might run code of it, or read other files for it.

It is a zip archive of config.json, which names classes and functions, and of weights in HDF5, which may point
into other files. Keras has a safe mode of its own, which has been got round several times; so nothing is left to
it that names anything but layers, what they are made of, and functions that only compute.

Source: `keras/src/saving/{serialization_lib,saving_lib}.py`, Keras 3.15.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelexport.errors import MxError, SourceError, UnsafeFileError, first_line
from modelexport.toolkit import check_regular, parse_json

_MEMBER = re.compile(r"config\.json|metadata\.json|model\.weights\.h5|assets/.*", re.ASCII)
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"

#: where Keras has what a model is made of, and functions that only compute
_MODULES = re.compile(
    r"keras(\.(layers|models|initializers|regularizers|constraints|activations|dtype_policies|losses|metrics"
    r"|optimizers(\.\w+)*|quantizers|random|ops(\.\w+)*|src\.(models|ops|layers|quantizers)(\.\w+)*))?"
)
_FUNCTIONS = re.compile(r"builtins|keras\.(src\.)?(activations|initializers|ops|losses|metrics)(\.\w+)*")

#: layers and values that hold code, or load it
_CODE = frozenset(
    ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "__lambda__", "__torch_module__")
)

#: settings that name a file where they are text
_FILES = frozenset(("vocabulary", "idf_weights", "filepath", "vocab", "merges", "proto", "vocabulary_file"))

#: the most bytes of config.json; how much larger than the file its contents may be, beside twice as large
_JSON, _SLACK = 256 << 20, 64 << 20

_HINT = "give --allow-pickle if you trust who made it"
_INSTEAD = f"replace the layer, or {_HINT}"


def check(path: Path) -> None:
    """Raise UnsafeFileError where loading the file might run code, or read files beside it.

    Raises SourceError for what is no such file, a damaged one, or one that is packed beyond measure.
    """
    size = check_regular(path, kind=SourceError)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive, size)
            _check_config(path, parse_json(archive.read(_CONFIG), f"{path}: {_CONFIG}", SourceError))
            weights = archive.read(_WEIGHTS)
    except (MxError, MemoryError):
        raise
    except Exception as error:  # whatever zipfile and what unpacks for it raise: zlib.error, LZMAError, EOFError…
        raise SourceError(
            f"{path} is no .keras file, or a damaged one: {first_line(error)}", "save it again"
        ) from error
    _check_weights(path, weights)


def _check_members(path: Path, archive: zipfile.ZipFile, size: int) -> None:
    names = [member.filename for member in archive.infolist()]
    for name in names:
        if not _MEMBER.fullmatch(name) or ".." in name.split("/") or "\\" in name:
            raise UnsafeFileError(f"{path} holds {name[:80]!r}, which Keras does not write", _HINT)
    if len({name.lower() for name in names}) < len(names):
        raise UnsafeFileError(f"{path} holds two members of one name", _HINT)
    full = sum(member.file_size for member in archive.infolist())
    if full > 2 * size + _SLACK or archive.getinfo(_CONFIG).file_size > _JSON:
        raise SourceError(f"{path} would take {full} bytes, packed into {size}", "save it with Keras, unpacked")


def _check_config(path: Path, config: Any) -> None:
    """Every object is a part of a model, and none is made of code. Raises SourceError where it is no object."""
    if not isinstance(config, dict):
        raise SourceError(f"{path} is damaged: {_CONFIG} is no object", "save it again")
    for value in _objects(config):
        kind, module = value.get("class_name"), value.get("module")
        if kind is not None:
            _check_names(path, value)
        if kind in _CODE:
            raise UnsafeFileError(f"{path} holds Python code ({_named(kind)}), which loading would run", _INSTEAD)
        if isinstance(module, str) and re.match(r"builtins|keras\b", module) and not _is_part(kind, module):
            raise UnsafeFileError(f"{path} asks for {module}.{_called(value)}, which is no part of a model", _HINT)
        for key in _FILES & set(value):
            if isinstance(value[key], str):
                raise UnsafeFileError(f"{path} reads another file: {value[key][:80]!r} ({key})", _HINT)


def _check_names(path: Path, value: dict[str, Any]) -> None:
    for key in ("class_name", "module", "registered_name"):
        if not isinstance(value.get(key), str | None):
            raise SourceError(f"{path} is damaged: {key} is no text: {str(value[key])[:80]}", "save it again")


def _named(kind: Any) -> str:
    return "a Lambda layer" if kind in ("Lambda", "__lambda__") else f"a layer {kind}"


def _called(value: dict[str, Any]) -> str:
    return str(value.get("config") if value.get("class_name") == "function" else value.get("class_name"))[:80]


def _is_part(kind: Any, module: str) -> bool:
    if kind == "function":
        return _FUNCTIONS.fullmatch(module) is not None
    return module == "builtins" or _MODULES.fullmatch(module) is not None


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value, the outermost first."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _check_weights(path: Path, data: bytes) -> None:
    """The weights lie in the file: HDF5 links to other files, and makes arrays of any size out of nothing."""
    import h5py

    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            _check_group(path, file, set(), len(data))
    except (MxError, MemoryError):
        raise
    except Exception as error:
        raise SourceError(f"{path}: {_WEIGHTS} is damaged: {first_line(error)}", "save it again") from error


def _check_group(path: Path, group: Any, seen: set[int], size: int) -> None:
    import h5py

    place = h5py.h5o.get_info(group.id).addr
    if place in seen:  # a group may hold itself
        raise UnsafeFileError(f"{path}: {_WEIGHTS} has a group twice", _HINT)
    seen.add(place)
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise UnsafeFileError(f"{path}: {_WEIGHTS} links to something else ({name[:80]})", _HINT)
        entry = group[name]
        if isinstance(entry, h5py.Group):
            _check_group(path, entry, seen, size)
        elif not isinstance(entry, h5py.Dataset) or entry.external or entry.is_virtual:
            raise UnsafeFileError(f"{path}: {_WEIGHTS} reads another file ({name[:80]})", _HINT)
        elif entry.nbytes > 2 * size + _SLACK:
            raise SourceError(f"{path}: {_WEIGHTS} has {entry.nbytes} bytes of {name[:80]}", "save it again")
