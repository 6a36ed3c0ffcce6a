"""Execute the pages of the documentation: each is one test, and `pytest docs/how-to/quantize.md` runs that one.

A page (README.md, docs/tutorial, docs/how-to) runs from top to bottom in an empty folder, in a virtual environment
of its own on top of the one the tests run in, with no package index in reach; on Linux, what runs mx or a program
has PyTorch imported already (docs/warm.py). Its fenced blocks:

    any, if its first line is `# some/file.py`      is written to that file
    python      is a program of its own; a text block right after it is what it prints
    console     runs its lines after `$ ` with bash (a trailing backslash continues one); the others are output
    sh          is one script, its output unchecked

A command succeeds, unless the next one is `$ echo $?` and shows its exit code. Output is stdout and stderr
together, compared line by line. Blank lines, runs of spaces and of `─` do not count. A number with a point or an
exponent is a measurement and matches any number; a whole number matches only itself, except after
`<!-- measured -->`. `…` stands for any text, and alone on a line for any lines. What work that lasts says of
itself (`capture with torch.export (20 s)`) does not count.

A block after `<!-- not run: reason -->` is left alone. One inside an HTML comment is run, unseen by readers.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from docs.warm import Warm

ROOT = Path(__file__).resolve().parents[1]

_PROGRESS = re.compile(r"^.* \(\d+ s\)\n", re.MULTILINE)
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("tutorial/*.md")), *sorted(DOCS.glob("how-to/*.md"))]

# --------------------------------------------------------------------------------------- reading a page


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, lines, the line of the page it begins at, and what the page says of it."""

    language: str
    lines: tuple[str, ...]
    place: int
    skip: str | None = None
    measured: bool = False

    @property
    def file(self) -> str | None:
        """The file that the block is shown as, from its first line."""
        match = re.fullmatch(r"# ([\w./-]+\.\w+)", self.lines[0]) if self.lines else None
        return match and match[1]

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order. Raises ValueError for one that does not end."""
    lines, found, said = page.read_text(encoding="utf-8").splitlines(), [], {}
    numbered = iter(enumerate(lines, 1))
    for place, line in numbered:
        if match := re.fullmatch(r"<!-- not run: (.+) -->", line):
            said = {"skip": match[1]}
        elif line == "<!-- measured -->":
            said = {"measured": True}
        elif line.startswith("```"):
            body = []
            for _, inner in numbered:
                if inner.startswith("```"):
                    break
                body.append(inner)
            else:
                raise ValueError(f"{page.name}:{place}: the block does not end")
            found.append(Block(line[3:].strip(), tuple(body), place, **said))
            said = {}
        elif line.strip():
            said = {}
    return found


def commands(lines: Sequence[str]) -> list[tuple[str, list[str]]]:
    """(command, its expected lines) of a console block."""
    found, lines = [], list(lines)
    while lines:
        line = lines.pop(0)
        if not line.startswith("$ "):
            raise ValueError(f"expected a line that starts with $: {line!r}")
        command = line[2:]
        while command.endswith("\\"):
            command += "\n" + lines.pop(0)
        expected = []
        while lines and not lines[0].startswith("$ "):
            expected.append(lines.pop(0))
        found.append((command, expected))
    return found


MEASURED = r"-?\d+(?:\.\d+(?:e[+-]?\d+)?|e[+-]?\d+)"
ANY_NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
TOKENS = re.compile(rf"(?P<any>…)|(?P<rule>─+)|(?P<space>\s+)|(?P<number>{MEASURED})|(?P<whole>\d+)|(?P<text>.)")
PATTERNS = {"any": ".*", "rule": "─+", "space": r"\s+", "number": ANY_NUMBER}


def pattern(line: str, measured: bool = False) -> str:
    """The regular expression that an output line must match in full."""
    tokens = ((m.lastgroup, m[0]) for m in TOKENS.finditer(line.strip()))
    loose = {**PATTERNS, "whole": ANY_NUMBER} if measured else PATTERNS
    return "".join(loose.get(kind, re.escape(text)) for kind, text in tokens)


def agree(expected: Sequence[str], printed: str, measured: bool = False) -> bool:
    """Whether the lines printed are those expected, by the rules above."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    wanted = [line for line in expected if line.strip()]
    whole = "".join("(?:.*\n)*" if line.strip() == "…" else pattern(line, measured) + "\n" for line in wanted)
    return re.fullmatch(whole, "".join(f"{line}\n" for line in lines)) is not None


# --------------------------------------------------------------------------------------- running a page


def environment(folder: Path) -> dict[str, str]:
    """Variables for a virtual environment that sees what is installed here, with its own place to install."""
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    for name in ("mx", "pip", "pytest"):
        script = Path(sys.executable).with_name(name).read_text(encoding="utf-8").splitlines()
        _write_script(folder / "bin" / name, "\n".join(["#!/usr/bin/env python", *script[1:], ""]))
    ours = {"VIRTUAL_ENV": str(folder), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    foreign = ("PYTHON", "PYTEST", "MX_", "COV_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, **ours, **offline, "COLUMNS": "160"}


def _write_script(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    file.chmod(0o755)


@functools.cache
def _warm() -> Warm:
    """One for all pages that this process runs, with the variables that they have in common."""
    folder = Path(tempfile.mkdtemp(prefix="mx-warm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Warm(folder / "socket", environment(folder / "venv"))


def _warmed(folder: Path) -> list[str]:
    """Have an environment's mx run in forks of one process; the command that runs a program in one as well."""
    script = (folder / "bin" / "mx").rename(folder / "bin" / "mx-cold")
    _write_script(folder / "bin" / "mx", _warm().client(str(script)))
    _write_script(folder / "bin" / "program", _warm().client("-"))
    return ["program"]


def run_page(page: Path, folder: Path, warm: bool = False) -> list[str]:
    """Execute a page; returns one line for each thing that is not as the page says.

    If `warm`, what runs mx or a program has PyTorch imported already.
    """
    variables, problems = environment(folder / "venv"), []
    program = _warmed(folder / "venv") if warm else ["python", "-"]
    work = folder / "work"
    work.mkdir()
    page_blocks = blocks(page)

    def run(command, **keywords):
        return subprocess.run(command, cwd=work, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=300, **keywords)  # fmt: skip

    def check(block, what, done, expected, code=0):
        if done.returncode != code:
            problems.append(f"{page.name}:{block.place}: {what}\nexit code {done.returncode}\n{done.stdout}")
        elif expected is not None and not agree(expected, _PROGRESS.sub("", done.stdout), block.measured):
            shown = "\n".join(expected)
            problems.append(f"{page.name}:{block.place}: {what}\nexpected:\n{shown}\nprinted:\n{done.stdout}")

    for block, following in zip(page_blocks, [*page_blocks[1:], None], strict=True):
        if block.skip is not None:
            continue
        if block.file:
            place = work / block.file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            printed = following.lines if following and following.language == "text" else None
            check(block, "the program", run(program, input=block.text), printed)
        elif block.language == "sh":
            check(block, "the script", run(["bash", "-e"], input=block.text), None)
        elif block.language == "console":
            steps, code = commands(block.lines), 0
            for (command, expected), after in zip(steps, [*steps[1:], ("", [])], strict=True):
                done = run(["bash", "-c", f"(exit {code}); {command}"])
                asked = after[0] == "echo $?"
                check(block, command, done, expected, done.returncode if asked else 0)
                code = done.returncode
    return problems


# --------------------------------------------------------------------------------------- pages as tests


class PageFailure(Exception):
    """What is not as a page says."""


class Page(pytest.File):
    """A page of the documentation, as pytest collects it."""

    def collect(self) -> Iterator[pytest.Item]:
        yield Execution.from_parent(self, name="does what it says")


class Execution(pytest.Item):
    """A page run from top to bottom."""

    def runtest(self) -> None:
        with tempfile.TemporaryDirectory(prefix="mx-page-") as folder:
            if problems := run_page(self.path, Path(folder), warm=sys.platform == "linux"):
                raise PageFailure("\n\n".join(problems))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> object:
        return str(excinfo.value) if isinstance(excinfo.value, PageFailure) else super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"{self.path.name} does what it says"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Page | None:
    return Page.from_parent(parent, path=file_path) if file_path in PAGES else None
