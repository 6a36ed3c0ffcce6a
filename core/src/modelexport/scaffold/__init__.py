"""`mx plugin new`: a distribution that installs, in the shape that every target's folder has.

`files/` holds what every plugin gets; `parts/NAME/` what a part adds: a module of its own, and pieces of the
`__init__` module that declare it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from ..contract.options import suggest
from ..contract.target import CAPTURED, MODULE
from ..errors import OptionError, OutputError, __version__
from ..plugins import entries, known
from ..store.staging import output_errors, refuse_inside

FILES, PARTS_FOLDER = Path(__file__).parent / "files", Path(__file__).parent / "parts"


@dataclass(frozen=True)
class Part:
    """Something that a target may have: its module, the line on that in `__init__`, the types its hooks take."""

    module: str
    line: str
    types: tuple[str, ...] = ()


#: what `--with` takes
PARTS: Mapping[str, Part] = {
    "optimize": Part("optimize.py", "faster equivalents: the fastest that computes the same is kept"),
    "quantize": Part("quantize.py", "copies in fewer bits, within a goal", ("Calibration", "Goal")),
    "snippets": Part("snippets.py", "source code that loads and runs an artifact"),
    "source": Part("source.py", "existing files as sources", ("LoadOptions", "Source")),
}


@dataclass(frozen=True)
class Consumed:
    """What `mx_export` is given for a format that a target consumes: its type, and what is in it."""

    type: str
    contents: str


_CONSUMED = {
    MODULE: Consumed("Source", "source.module is the live nn.Module in eval mode; source.specs are its inputs"),
    CAPTURED: Consumed(
        "Captured", "source.program is the torch.export program; source.inputs and .outputs name its tensors"
    ),
}
_ARTIFACT = Consumed(
    "Artifact", "source.entry_path is the other target's file; source.inputs and .outputs name its tensors"
)


def write(name: str, consumes: str, out: Path, parts: Collection[str] = ()) -> Path:
    """Write modelexport-NAME below `out`, with `parts` of PARTS, and return its folder.

    Raises OptionError for a name that can't be a package's or is a target's, and for an unknown part, OutputError
    when the folder is there already, or in an artifact.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise OptionError(
            f"{name!r} can't be a target's name", "use lower-case letters, digits and single hyphens"
        )
    if name in (MODULE, CAPTURED, *known.TARGETS, *entries.find(entries.TARGETS)):
        raise OptionError(f"there is a target {name!r} already", "choose another name")
    for part in parts:
        if part not in PARTS:
            raise OptionError(f"there is no part {part!r}", suggest(part, list(PARTS)))
    folder = out / f"modelexport-{name}"
    if folder.exists():
        raise OutputError(f"{folder} is there already", "choose another name, or another folder with -o")
    refuse_inside(folder)
    words = _words(name, consumes, sorted(set(parts)))
    with output_errors(folder):
        for template in sorted(FILES.rglob("*.txt")):
            place = _filled(template.relative_to(FILES).as_posix().removesuffix(".txt"), words)
            _write(folder / place, _filled(template.read_text(encoding="utf-8"), words))
        _write(folder / "src" / words["package"] / "py.typed", "")
        for part in set(parts):
            place = f"src/{words['package']}/{PARTS[part].module}"
            _write(folder / place, _piece(part, "module", words))
    return folder


def _write(place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"{text.rstrip()}\n" if text else "", encoding="utf-8")


def _filled(text: str, words: Mapping[str, str]) -> str:
    return Template(text).substitute(words)


def _piece(part: str, piece: str, words: Mapping[str, str]) -> str:
    """What a part adds in one place; most add nothing in most places."""
    template = PARTS_FOLDER / part / f"{piece}.txt"
    return _filled(template.read_text(encoding="utf-8"), words) if template.is_file() else ""


def _words(name: str, consumes: str, parts: Collection[str]) -> dict[str, str]:
    """What stands for the places in the templates."""
    takes = _CONSUMED.get(consumes, _ARTIFACT)
    major, minor = __version__.split(".")[:2]
    adopts = "source" in parts
    accepted = dict.fromkeys([takes.type, *(["Source"] if adopts else [])])
    is_file = f'source.format == "{name}"' if takes.type == "Source" else "isinstance(source, Source)"
    words = {
        "name": name,
        "package": f"modelexport_{name.replace('-', '_')}",
        "title": "".join(word.title() for word in name.split("-")),
        "given": takes.type,
        "contents": takes.contents,
        "core": f">={major}.{minor},<{int(major) + 1}",
        "consumed": f'"{consumes}", "{name}"' if adopts else f'"{consumes}",',
        "accepted": " | ".join(accepted),
        "adopts": is_file,
        **_imports(parts, tuple(accepted), by_type="isinstance" in is_file and adopts),
    }
    words["modules"] = "".join(f"{PARTS[part].module:<13} {PARTS[part].line}\n" for part in parts)
    words["points"] = f'\n[project.entry-points."mx.sources"]\n{name} = "{words["package"]}"\n' if adopts else ""
    for piece in ("options", "verbs", "fields", "hooks", "adopt"):
        words[piece] = "".join(_piece(part, piece, words) for part in parts)
    return words


def _imports(parts: Collection[str], accepted: tuple[str, ...], by_type: bool) -> dict[str, str]:
    """The import lines that depend on what there is; `by_type`: export.py asks whether it was given a Source."""
    types = {"Artifact", "Build", "Session", *accepted, *(name for part in parts for name in PARTS[part].types)}
    typed = [name for name in sorted(accepted) if not (by_type and name == "Source")]
    return {
        "types": ", ".join(sorted(types)),
        "literal": ", Literal" if "quantize" in parts else "",
        "mapping": "    from collections.abc import Mapping\n" if "snippets" in parts else "",
        "made": "Build, Source" if by_type else "Build",
        "copies": "from modelexport.toolkit import copy_as\n" if "source" in parts else "",
        "typed": f"    from modelexport.contract import {', '.join(typed)}\n\n" if typed else "",
    }


def doubts(consumes: str) -> list[str]:
    """What may be wrong with what is consumed: no target known or installed makes it."""
    makers = [MODULE, CAPTURED, *known.TARGETS, *entries.find(entries.TARGETS)]
    if consumes in makers:
        return []
    return [f"no target makes {consumes!r}, so only a source can: {suggest(consumes, makers)}"]


def next_steps(name: str, folder: Path) -> list[str]:
    """The commands that lead from the scaffold to a checked target."""
    package = f"modelexport_{name.replace('-', '_')}"
    return [
        f"pip install -e {folder}",
        f"mx plugin check {name} --tests {folder}/tests/contract/test_contract.py",
        f"write export.py and session.py in {folder}/src/{package} until it passes",
    ]
