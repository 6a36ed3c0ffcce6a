"""Read and write an artifact's manifest.json.

Reading checks everything it can without loading the model: all that the manifest says (see `document.py`), that
every path stays inside the artifact, and the size and sha256 of every file.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ..contract.artifacts import Artifact, FileEntry
from ..errors import ArtifactError
from ..jsontext import read_json
from ..regular import check_path
from . import listing, schema, scratch, versions
from .digests import sha256

NAME = schema.NAME

#: the most bytes of a manifest: a report of many thousand layers has a few million
LIMIT = 64 << 20


def is_in(folder: Path) -> bool:
    """Whether there is an artifact at `folder`. Where case does not count, another's Manifest.json is none."""
    return _mode(folder / NAME) == stat.S_IFREG and any(file.name == NAME for file in folder.iterdir())


def _mode(path: Path) -> int:
    """What kind of thing is at `path`, as `stat` says it; 0 where nothing is, and nothing can be."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except (OSError, ValueError):
        return 0


def load(path: str | os.PathLike[str]) -> Artifact:
    """The artifact at what a user gave as its path, as `read` reads it. Raises ArtifactError."""
    check_path(path, ArtifactError)
    return read(path)


def read(path: str | os.PathLike[str], check_files: bool = True) -> Artifact:
    """Load the artifact at `path`; with `check_files`, after hashing every file it lists, all of one version.

    Raises ArtifactError when there is none, it is damaged (naming the file), or its schema is newer.
    """
    root = Path(path)
    return versions.steady(root, lambda: _read(root, check_files))


def _read(root: Path, check_files: bool) -> Artifact:
    file = root / NAME
    if not _mode(root):
        raise ArtifactError(f"no artifact at {root}", "make one with `mx export SOURCE -t TARGET`")
    if stat.S_ISREG(_mode(root)):
        raise ArtifactError(f"{root} is a file, not an artifact", _way_from(root))
    if _mode(file) != stat.S_IFREG:
        raise ArtifactError(f"{root} is not an artifact: it has no {NAME}", "give the folder `mx export` wrote")
    artifact = schema.from_json(read_json(file, ArtifactError, "export the model again", LIMIT), root)
    listing.check_named(artifact)
    if check_files:
        check(artifact)
    return artifact


def _way_from(file: Path) -> str:
    """What to do with a file, where an artifact is wanted."""
    folder = next((folder for folder in file.parents if _mode(folder / NAME) == stat.S_IFREG), None)
    if folder is not None:
        return f"give the folder that it is part of, {folder}"
    return f"`mx export {file} -t TARGET` makes one of a model that a source plugin can read"


def check(artifact: Artifact) -> None:
    """Raise ArtifactError naming the first listed file that is missing or not what was written, or unlisted."""
    try:
        listing.check_tree(artifact)
        for entry in artifact.files:
            _check_file(artifact.path / entry.path, entry)
    except OSError as error:
        raise ArtifactError(
            f"can't read {str(error.filename)[:200]!r} of the artifact: {error.strerror}", "export the model again"
        ) from error


def _check_file(file: Path, entry: FileEntry) -> None:
    try:
        kind = file.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactError(f"{file} is missing from the artifact", "export the model again") from error
    if not stat.S_ISREG(kind.st_mode):
        raise ArtifactError(f"{file} is no regular file", "don't use this artifact if it isn't yours")
    if kind.st_size != entry.size:
        raise ArtifactError(
            f"{file} is damaged: {kind.st_size} bytes, the manifest says {entry.size}", "export the model again"
        )
    if sha256(file) != entry.sha256:
        raise ArtifactError(f"{file} is damaged: its sha256 is not the manifest's", "export the model again")


def write(artifact: Artifact) -> None:
    """Write the manifest.json of an artifact that nobody reads yet. The caller lists the files first."""
    _write(artifact, None)


def update(before: Artifact, after: Artifact) -> bool:
    """Write the manifest of `after` where that of `before` stands; False where another one does by now."""
    with versions.reading(before.path) as folder:
        if not is_in(before.path) or not _same(_read(before.path, check_files=False), before):
            return False
        _write(after, folder.descriptor)
        return folder.current


def _write(artifact: Artifact, folder: int | None) -> None:
    """In one step; into the `folder` that is open, if one is, and not into another that has its path by now."""
    with scratch.draft(artifact.path, NAME) as draft:
        with (draft / NAME).open("w", encoding="utf-8") as stream:
            json.dump(schema.to_json(artifact), stream, indent=2, ensure_ascii=False)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        if folder is None:
            (draft / NAME).replace(artifact.path / NAME)
        else:
            os.replace(draft / NAME, NAME, dst_dir_fd=folder)


def _same(one: Artifact, other: Artifact) -> bool:
    return json.dumps(schema.to_json(one)) == json.dumps(schema.to_json(other))


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
