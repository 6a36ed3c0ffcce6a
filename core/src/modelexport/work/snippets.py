"""Code to start from on the device: what a target's `mx_snippet` writes, in the artifact's folder `snippets`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from ..contract.artifacts import Artifact
from ..contract.options import suggest
from ..errors import OptionError, TargetError
from ..plugins import calls, manager

FOLDER = "snippets"


def check(targets: Sequence[str], languages: Sequence[str]) -> None:
    """Raise OptionError for a language that none of `targets` has."""
    offered = sorted({language for name in targets for language in manager.target(name).target.snippets})
    for language in languages:
        if language not in offered:
            raise OptionError(f"no snippet in {language!r} for {', '.join(targets)}", suggest(language, offered))


def languages(artifact: Artifact) -> tuple[str, ...]:
    """Those that snippets of `artifact` are written in: a copy of it gets them too."""
    parts = [PurePosixPath(entry.path).parts for entry in artifact.files]
    return tuple(dict.fromkeys(part[1] for part in parts if part[0] == FOLDER and len(part) > 2))


def complete(artifact: Artifact, wanted: Sequence[str]) -> bool:
    """Whether the snippets in `artifact` are those that `wanted` asks of its target, and no others."""
    return set(languages(artifact)) == set(wanted) & set(manager.target(artifact.format).target.snippets)


def write(artifact: Artifact, wanted: Sequence[str]) -> None:
    """Write the snippets of `artifact` in the `wanted` languages that its target has into its folder.

    Raises TargetError when the plugin gives a name outside the folder.
    """
    plugin = manager.target(artifact.format)
    for language in (language for language in wanted if language in plugin.target.snippets):
        folder = artifact.path / FOLDER / language
        files = calls.call(plugin, "snippet", artifact=artifact, language=language)
        for name, text in files.items():
            if PurePosixPath(name).name != name:
                raise TargetError(
                    f"target {artifact.format!r} gives a snippet the name {name!r}", "it must be a plain file name"
                )
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
