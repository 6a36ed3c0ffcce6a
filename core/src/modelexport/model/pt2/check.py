"""Refuse a `.pt2` that would run code: `torch.export.load` unpickles, evaluates and imports without asking.

What torch 2.13 does with a file of others: it unpickles tensors of subclasses, sample inputs and objects, loads
compiled code as a library, evaluates symbolic expressions with sympy, imports the modules of types that inputs are
nested in, calls operators by whatever name, and writes names of nodes and arguments into Python that it compiles.
So a file passes here only where every member and every field is known, and holds what torch writes there.

Source: `torch/export/pt2_archive/_package.py`, `torch/_export/serde/{schema,serialize}.py`, `torch/fx/graph.py`.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

from ...errors import SourceError, UnsafeFileError, first_line
from ...regular import open_regular
from . import fields
from .refused import Damaged, Refused
from .storedzip import StoredZip

#: what is in a `.pt2` that torch.export.save writes; text of the user's own may be added
_CONFIGS = {kind: f"data/{kind}/model_{kind}_config.json" for kind in ("weights", "constants")}
_PROGRAM, _SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
_SMALL = frozenset(("archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id"))
_NUMBERED = r"data/(weights/weight|constants/tensor)_\d{1,9}"
_TENSOR = re.compile(_NUMBERED, re.ASCII)
_MEMBER = re.compile("|".join((_NUMBERED, *_CONFIGS.values(), _PROGRAM, _SAMPLES, r"extra/[\w.+-]+")), re.ASCII)

#: what is in an archive that torch.save writes
_SAVED = re.compile(
    r"data\.pkl|data/\d{1,9}|version|byteorder|\.(format_version|storage_alignment|data/serialization_id)",
    re.ASCII,
)

#: the most bytes of a description, and of each member that says a word
_JSON, _WORD = 256 << 20, 4096


def check_program(path: Path, flag: str = "--allow-pickle") -> None:
    """Raise UnsafeFileError where loading the program at `path` might run code that the file holds.

    Raises SourceError when it is no program at all, or a damaged one. `flag` is what lets such a file be loaded.
    """
    with open_regular(path, kind=SourceError) as stream:
        try:
            archive = StoredZip(stream)
            _check_members(archive)
            _check_payloads(archive)
            _check_samples(archive)
            fields.check("ExportedProgram", _parsed(archive, _PROGRAM))
        except Refused as error:
            raise UnsafeFileError(
                f"{path} may run code that it holds: it has {error}",
                f"export the model again, without such parts; if you trust its author, add {flag}",
            ) from error
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:  # of any other shape
            raise SourceError(
                f"{path} is no torch.export program, or a damaged one: {first_line(error)}",
                f"save it with torch.export.save, or give the model's code; if you trust its author, add {flag}",
            ) from error


def _check_members(archive: StoredZip) -> None:
    """Only what torch.export.save writes of one program."""
    for name, member in archive.members.items():
        if name in _SMALL:
            if member.size > _WORD:
                raise Damaged(f"its {name} has {member.size} bytes")
        elif not _MEMBER.fullmatch(name):
            raise Refused(f"the member {name[:80]}")
    if archive.read("archive_format", _WORD) != b"pt2":
        raise Damaged("it is another kind of archive")


def _parsed(archive: StoredZip, name: str) -> Any:
    """A description, read as torch reads it."""
    try:
        return json.loads(archive.read(name, _JSON).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Damaged(f"its {name} is no text") from error


def _check_payloads(archive: StoredZip) -> None:
    """Every weight and constant is the bytes of a tensor, and has as many as it says."""
    for kind, config in _CONFIGS.items():
        described = _parsed(archive, config)
        fields.check("PayloadConfig", described)
        prefix = {"weights": "weight_", "constants": "tensor_"}[kind]
        for payload in described["config"].values():
            name = payload["path_name"]
            if not name.startswith(prefix) or not _TENSOR.fullmatch(f"data/{kind}/{name}"):
                raise Refused(f"the object {name[:80]}")
            content = f"data/{kind}/{name}"
            if payload["use_pickle"]:
                _check_pickle(archive, content)
            else:
                _check_extent(archive, content, payload["tensor_meta"])


def _check_extent(archive: StoredZip, name: str, meta: Any) -> None:
    """A tensor lies within its bytes: torch makes one of any size out of nothing."""
    member = archive.members.get(name)
    if member is None or meta is None:
        raise Damaged(f"it holds no {name}")
    try:
        sizes = [size["as_int"] for size in meta["sizes"]]
        strides = [stride["as_int"] for stride in meta["strides"]]
        last = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    except KeyError as error:
        raise Damaged(f"its {name} has a size that is no number") from error
    reach = 0 if 0 in sizes else meta["storage_offset"]["as_int"] + last + 1
    if min(sizes + strides, default=0) < 0 or reach > member.size:  # an element takes a byte at least
        raise Damaged(f"its {name} is too short")


def _check_samples(archive: StoredZip) -> None:
    if archive.members.get(_SAMPLES) is None:
        raise Damaged(f"it holds no {_SAMPLES}")
    if archive.members[_SAMPLES].size:
        _check_pickle(archive, _SAMPLES)


def _check_pickle(archive: StoredZip, name: str) -> None:
    """torch falls back to unpickling anything where the safe way fails: here it must not."""
    import torch

    data = archive.read(name)
    try:
        saved = StoredZip(io.BytesIO(data))
        if not all(_SAVED.fullmatch(member) for member in saved.members):
            raise Refused(f"the pickle {name}")
        torch.load(io.BytesIO(data), weights_only=True)
    except Exception as error:
        raise Refused(f"the pickle {name}") from error
