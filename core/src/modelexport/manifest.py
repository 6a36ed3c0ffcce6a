"""manifest.json ↔ Artifact. The format is documented in docs/reference/manifest.md.

Reading checks everything it can without loading the model: the schema's version, that every listed path
stays inside the artifact, and the size and sha256 of every file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import ArtifactError
from .types import Artifact, Dim, FileEntry, Parity, Step, TensorSpec

SCHEMA = 1
NAME = "manifest.json"


def is_in(folder: Path) -> bool:
    """Whether there is an artifact at `folder`. Where case does not count, another's Manifest.json is none."""
    return (folder / NAME).is_file() and any(file.name == NAME for file in folder.iterdir())


def read(path: str | os.PathLike[str], check_files: bool = True) -> Artifact:
    """Load the artifact at `path`; with `check_files`, after hashing every file it lists.

    Raises ArtifactError when there is none, it is damaged (naming the file), or its schema is newer.
    """
    root = Path(path)
    file = root / NAME
    if not root.exists():
        raise ArtifactError(f"no artifact at {root}", "make one with `mx export SOURCE -t TARGET`")
    if not file.is_file():
        raise ArtifactError(f"{root} is not an artifact: it has no {NAME}", "give the folder `mx export` wrote")
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        artifact = from_json(data, root)
    except ArtifactError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{file} is damaged: {type(error).__name__}: {error}", "export the model again"
        ) from error
    if check_files:
        check(artifact)
    return artifact


def check(artifact: Artifact) -> None:
    """Raise ArtifactError naming the first listed file that is missing or not what was written."""
    for entry in artifact.files:
        file = artifact.path / entry.path
        if not file.is_file():
            raise ArtifactError(f"{file} is missing from the artifact", "export the model again")
        size = file.stat().st_size
        if size != entry.size:
            raise ArtifactError(
                f"{file} is damaged: {size} bytes, the manifest says {entry.size}", "export the model again"
            )
        if sha256(file) != entry.sha256:
            raise ArtifactError(f"{file} is damaged: its sha256 is not the manifest's", "export the model again")


def write(artifact: Artifact) -> None:
    """Write manifest.json, replacing an existing one in one step. The caller lists the files first."""
    file = artifact.path / NAME
    draft = file.with_name(f".{NAME}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as stream:
            json.dump(to_json(artifact), stream, indent=2, ensure_ascii=False)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def list_files(root: Path) -> tuple[FileEntry, ...]:
    """Every file below `root` but the manifest, with size and sha256, sorted by path."""
    return tuple(
        FileEntry(file.relative_to(root).as_posix(), file.stat().st_size, sha256(file))
        for file in sorted(_walk(root))
        if file.relative_to(root).as_posix() != NAME
    )


def _walk(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path


def tree_sha256(root: Path) -> str:
    """The sha256 of a file; of a folder, that over the names and contents of the files below it."""
    if root.is_file():
        return sha256(root)
    digest = hashlib.sha256()
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(root).as_posix()} {sha256(file)}\n".encode())
    return digest.hexdigest()


def sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb", buffering=0) as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


# --------------------------------------------------------------------------------------- JSON


def to_json(artifact: Artifact) -> dict[str, Any]:
    dims = {d.name: d for spec in (*artifact.inputs, *artifact.outputs) for d in spec.dims}
    return {
        "schema": SCHEMA,
        "format": artifact.format,
        "entry": artifact.entry,
        "precision": artifact.precision,
        "dims": {name: {"min": d.min, "max": d.max, "multiple": d.multiple} for name, d in dims.items()},
        "inputs": [_spec_to_json(spec) for spec in artifact.inputs],
        "outputs": [_spec_to_json(spec) for spec in artifact.outputs],
        "verified": artifact.parity.verified,
        "parity": {key: value for key, value in asdict(artifact.parity).items() if key != "verified"},
        "lineage": [asdict(step) for step in artifact.lineage],
        "processing": dict(artifact.processing),
        "details": dict(artifact.details),
        "files": [asdict(file) for file in artifact.files],
    }


def from_json(data: Mapping[str, Any], root: Path) -> Artifact:
    """The artifact that `data` describes. Raises ArtifactError for a newer schema or an unsafe path."""
    schema = data["schema"]
    if not isinstance(schema, int) or schema < 1:
        raise ArtifactError(f"{root / NAME} has no valid schema version: {schema!r}", "export the model again")
    if schema > SCHEMA:
        raise ArtifactError(
            f"{root / NAME} has schema {schema}, this modelexport reads up to {SCHEMA}",
            "upgrade with `pip install -U modelexport`",
        )
    dims = {name: Dim(name, d["min"], d["max"], d["multiple"]) for name, d in data["dims"].items()}
    files = tuple(FileEntry(f["path"], f["size"], f["sha256"]) for f in data["files"])
    for path in [data["entry"], *(file.path for file in files)]:
        _refuse_escape(path, root)
    return Artifact(
        path=root,
        format=data["format"],
        entry=data["entry"],
        precision=data["precision"],
        inputs=tuple(_spec_from_json(spec, dims) for spec in data["inputs"]),
        outputs=tuple(_spec_from_json(spec, dims) for spec in data["outputs"]),
        parity=_parity_from_json(data),
        lineage=tuple(Step(**step) for step in data["lineage"]),
        processing=data["processing"],
        details=data["details"],
        files=files,
    )


def _refuse_escape(path: str, root: Path) -> None:
    pure = PurePosixPath(path)
    outside = pure.is_absolute() or ".." in pure.parts or "\\" in path or ":" in path or not path
    if outside or not (root / pure).resolve().is_relative_to(root.resolve()):
        raise ArtifactError(
            f"{root / NAME} lists {path!r}, which lies outside the artifact",
            "don't use this artifact: it was not written by modelexport",
        )


def _parity_from_json(data: Mapping[str, Any]) -> Parity:
    parity = data["parity"]
    return Parity(
        verified=data["verified"],
        reason=parity["reason"],
        outputs=tuple(parity["outputs"]),
        cases=tuple(parity["cases"]),
        skipped=parity["skipped"],
        environment=parity["environment"],
    )


def _spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    shape = [size.name if isinstance(size, Dim) else size for size in spec.shape]
    data: dict[str, Any] = {"name": spec.name, "dtype": spec.dtype, "shape": shape}
    if spec.values is not None:
        data["values"] = spec.values if isinstance(spec.values, str) else list(spec.values)
    return data


def _spec_from_json(data: Mapping[str, Any], dims: Mapping[str, Dim]) -> TensorSpec:
    values = data.get("values")
    return TensorSpec(
        name=data["name"],
        dtype=data["dtype"],
        shape=tuple(dims[size] if isinstance(size, str) else int(size) for size in data["shape"]),
        values=(values[0], values[1]) if isinstance(values, list) else values,
    )
