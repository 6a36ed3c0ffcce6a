"""What a page of figures is made of: sections that run commands, figures with the limits they should keep."""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Figure:
    """One number, or a remark, and the limits that it should keep."""

    what: str
    value: float | str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def kept(self) -> bool:
        if isinstance(self.value, str):
            return True
        low = -np.inf if self.at_least is None else self.at_least
        high = np.inf if self.at_most is None else self.at_most
        return bool(low <= self.value <= high)

    def __str__(self) -> str:
        shown = self.value if isinstance(self.value, str) else f"{self.value:.4f}"
        limits = [f"≤ {self.at_most}"] if self.at_most is not None else []
        limits += [f"≥ {self.at_least}"] if self.at_least is not None else []
        verdict = f"   ({', '.join(limits)}{'' if self.kept else ': MISSED'})" if limits else ""
        return f"  {self.what:<58}{shown}{verdict}"


Figures = Iterator[Figure]
Sections = Mapping[str, Callable[[], Figures]]


@dataclass(frozen=True)
class Done:
    """What a command printed, and how it ended."""

    code: int
    text: str


def mx(*arguments: str | Path, may_fail: bool = False) -> Done:
    """Run `mx`, and show the command. Raises SystemExit where it fails and may not."""
    shown = shlex.join(str(argument) for argument in arguments).replace(f"{ROOT}/", "")
    print(f"$ mx {shown}", flush=True)
    command = [str(Path(sys.executable).with_name("mx")), *map(str, arguments)]
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ran.returncode and not may_fail:
        raise SystemExit(ran.stdout)
    return Done(ran.returncode, ran.stdout.strip())


def run(doc: str | None, sections: Sections, packages: Mapping[str, Sequence[str]]) -> None:
    """The command line of a file of sections: those named, or all; `packages` are those whose versions count."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(sections)}; all by default")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    if strangers := set(options.sections) - set(sections):
        parser.error(f"no section {', '.join(sorted(strangers))}; there are {', '.join(sections)}")
    found: dict[str, dict[str, Any]] = {}
    for name in options.sections or sections:
        print(f"\n== {name}: {sections[name].__doc__}", flush=True)
        versions = {package: version(package) for package in packages[name]}
        print(", ".join(f"{package} {number}" for package, number in versions.items()))
        figures = []
        for figure in sections[name]():
            figures.append(figure)
            print(figure, flush=True)
        found[name] = {"versions": versions, "figures": [asdict(f) | {"kept": f.kept} for f in figures]}
    missed = [f"{name}: {f['what']}" for name, own in found.items() for f in own["figures"] if not f["kept"]]
    print(f"\nmissed: {'; '.join(missed) or 'nothing'}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        report = {"platform": platform.platform(), "sections": found}
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
