"""`mx plugin new`: a distribution that installs, from the files beside this one."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from ..contract.sources import CAPTURED, MODULE
from ..errors import OptionError, OutputError, __version__
from ..store.staging import output_errors

FILES = Path(__file__).parent / "files"

#: what `mx_export` is given, by the format that the target consumes: its type, and what is in it
_GIVEN = {
    MODULE: ("Source", "source.module is the live nn.Module in eval mode; source.specs are its inputs"),
    CAPTURED: (
        "Captured",
        "source.program is the torch.export program; source.inputs and .outputs name its tensors",
    ),
}
_ARTIFACT = (
    "Artifact",
    "source.entry_path is the other target's file; source.inputs and .outputs name its tensors",
)


def write(name: str, consumes: str, out: Path) -> Path:
    """Write modelexport-NAME below `out` and return its folder.

    Raises OptionError for a name that can't be a package's, OutputError when the folder is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise OptionError(
            f"{name!r} can't be a target's name", "use lower-case letters, digits and single hyphens"
        )
    folder = out / f"modelexport-{name}"
    if folder.exists():
        raise OutputError(f"{folder} is there already", "choose another name, or another folder with -o")
    given, contents = _GIVEN.get(consumes, _ARTIFACT)
    major, minor = __version__.split(".")[:2]
    words = {
        "name": name,
        "package": f"modelexport_{name.replace('-', '_')}",
        "title": "".join(part.title() for part in name.split("-")),
        "consumes": consumes,
        "given": given,
        "contents": contents,
        "core": f">={major}.{minor},<{int(major) + 1}",
    }
    with output_errors(folder):
        for template in sorted(path for path in FILES.rglob("*.txt")):
            place = folder / Template(template.relative_to(FILES).as_posix().removesuffix(".txt")).substitute(
                words
            )
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(Template(template.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
    return folder


def next_steps(name: str, folder: Path) -> list[str]:
    """The commands that lead from the scaffold to a checked target."""
    package = f"modelexport_{name.replace('-', '_')}"
    return [
        f"pip install -e {folder}",
        f"mx plugin check {name} --tests {folder}/tests/test_contract.py",
        f"write mx_export and mx_run in {folder}/src/{package}/__init__.py until it passes",
    ]
