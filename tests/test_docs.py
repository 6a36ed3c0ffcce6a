"""The documentation is executed, and what can be generated is compared with the code it comes from.

A page (README.md, docs/tutorial, docs/how-to) runs from top to bottom in an empty folder, in a virtual environment
of its own on top of the one the tests run in, with no package index in reach. Its fenced blocks:

    any, if its first line is `# some/file.py`      is written to that file
    python      is a program of its own; a text block right after it is what it prints
    console     runs its lines after `$ ` with bash (a trailing backslash continues one); the others are output
    sh          is one script, its output unchecked

A command succeeds, unless the next one is `$ echo $?` and shows its exit code. Output is stdout and stderr
together, compared line by line. Blank lines, runs of spaces and of `─` do not count. A number with a point or an
exponent is a measurement and matches any number; a whole number matches only itself, except after
`<!-- measured -->`. `…` stands for any text, and alone on a line for any lines.

A block after `<!-- not run: reason -->` is left alone. One inside an HTML comment is run, unseen by readers.
"""

import ast
import importlib.util
import inspect
import os
import re
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
from modelexport import errors
from modelexport.contract import hooks

ROOT = Path(__file__).parents[1]
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
    def file(self):
        """The file that the block is shown as, from its first line."""
        match = re.fullmatch(r"# ([\w./-]+\.\w+)", self.lines[0]) if self.lines else None
        return match and match[1]

    @property
    def text(self):
        return "\n".join(self.lines) + "\n"


def blocks(page):
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


def commands(lines):
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


def pattern(line, measured=False):
    """The regular expression that an output line must match in full."""
    tokens = ((m.lastgroup, m[0]) for m in TOKENS.finditer(line.strip()))
    loose = {**PATTERNS, "whole": ANY_NUMBER} if measured else PATTERNS
    return "".join(loose.get(kind, re.escape(text)) for kind, text in tokens)


def agree(expected, printed, measured=False):
    """Whether the lines printed are those expected, by the rules above."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    wanted = [line for line in expected if line.strip()]
    whole = "".join("(?:.*\n)*" if line.strip() == "…" else pattern(line, measured) + "\n" for line in wanted)
    return re.fullmatch(whole, "".join(f"{line}\n" for line in lines)) is not None


# --------------------------------------------------------------------------------------- running a page


def environment(folder):
    """Variables for a virtual environment that sees what is installed here, with its own place to install."""
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    for name in ("mx", "pip", "pytest"):
        script = Path(sys.executable).with_name(name).read_text(encoding="utf-8").splitlines()
        (folder / "bin" / name).write_text("\n".join(["#!/usr/bin/env python", *script[1:], ""]))
        (folder / "bin" / name).chmod(0o755)
    ours = {"VIRTUAL_ENV": str(folder), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    foreign = ("PYTHON", "PYTEST", "MX_", "COV_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, **ours, **offline, "COLUMNS": "160"}


def run_page(page, folder):
    """Execute a page; returns one line for each thing that is not as the page says."""
    variables, problems = environment(folder / "venv"), []
    work = folder / "work"
    work.mkdir()
    page_blocks = blocks(page)

    def run(command, **keywords):
        return subprocess.run(command, cwd=work, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=300, **keywords)  # fmt: skip

    def check(block, what, done, expected, code=0):
        if done.returncode != code:
            problems.append(f"{page.name}:{block.place}: {what}\nexit code {done.returncode}\n{done.stdout}")
        elif expected is not None and not agree(expected, done.stdout, block.measured):
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
            check(block, "the program", run(["python", "-"], input=block.text), printed)
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


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_does_what_it_says(page, tmp_path):
    problems = run_page(page, tmp_path)
    assert not problems, "\n\n".join(problems)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_says_what_it_is(page):
    """A block without a language would be neither run nor excused."""
    languages = {"python", "console", "sh", "text", "toml", "json"}
    assert not [f"{page.name}:{b.place}" for b in blocks(page) if b.language not in languages]


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("p50 0.12 ms", "p50   7.5e-05 ms", True),
        ("x:float32[2,3]", "x:float32[2,4]", False),
        ("batch=1..32", "batch=1..64", False),
        ("a\n…\nd", "a\nb\nc\nd", True),
        ("a\n…\nd", "a\nd\ne", False),
        ("hint: look at …/net", "hint: look at build/net", True),
        ("first line", "first line\nsecond line", False),
        ("first line\nsecond line", "first line", False),
        ("3 runs", "4 runs", False),
    ],
)
def test_output_is_compared_strictly_enough(expected, printed, same):
    assert agree(expected.split("\n"), printed) is same
    assert agree(["3 runs"], "4 runs", measured=True)


def test_a_page_that_says_something_else_is_caught(tmp_path):
    page = tmp_path / "page.md"
    fence = "`" * 3
    page.write_text(
        f"{fence}python\n# made/it.py\nprint(6 * 7)\n{fence}\n"
        f"{fence}console\n$ python made/it.py\n42\n$ false\n$ echo $?\n1\n$ echo one\ntwo\n$ exit 4\n{fence}\n"
        f"<!-- not run: it fails -->\n{fence}console\n$ false\n{fence}\n"
        f"{fence}python\nprint('x')\n{fence}\n{fence}text\ny\n{fence}\n{fence}sh\nfalse\ntrue\n{fence}\n"
    )
    found = [problem.splitlines()[0].removeprefix("page.md:") for problem in run_page(page, tmp_path)]
    assert found == ["5: echo one", "5: exit 4", "19: the program", "25: the script"]


# --------------------------------------------------------------------------------------- reference pages


def script(name):
    """docs/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_what_the_code_says():
    done = subprocess.run([sys.executable, DOCS / "generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_page_is_found():
    """`--check` against a copy of the repository's pages with one word changed."""
    generate = script("generate")
    text = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    assert generate.difference(DOCS / "reference" / "errors.md", text) == ""
    assert "-| 3 |" in generate.difference(DOCS / "reference" / "errors.md", text.replace("| 3 |", "| 33 |"))


def test_every_hook_signature_is_in_the_reference():
    """Compared through the signature object, not through the text that the page is generated from."""
    page = (DOCS / "reference" / "hooks.md").read_text(encoding="utf-8")
    for name, hook in vars(hooks).items():
        if name.startswith("mx_"):
            signature = str(inspect.signature(hook)).replace("'", "")
            assert f"\n{name}{signature}\n" in page, name
            assert inspect.cleandoc(hook.__doc__).splitlines()[0] in page, name


def error_codes():
    return {
        kind.exit_code: name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.MxError)
    }


def test_every_error_is_in_the_reference():
    page = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    for code, name in error_codes().items():
        assert f"| {code} | `{name}` |" in page


def test_the_readme_has_every_exit_code_once():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| exit code |") :].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    codes = [int(code) for row in rows for code in row.split(",")]
    assert sorted(codes) == sorted({0, *error_codes()})


def test_the_support_page_has_every_specimen_and_target():
    """Its cells are compared with the results by docs/support.py, at the end of a run with all contract tests."""
    support = script("support")
    page = support.PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(support.SPECIMENS)
    head = next(line for line in page.splitlines() if line.startswith("| model"))
    assert [cell.strip() for cell in head.split("|")[3:-1]] == sorted(support.targets())


@pytest.mark.slow
def test_the_support_page_expects_the_tests_that_there_are():
    """Otherwise no run would ever count as whole, and the page would never be compared."""
    support = script("support")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *support.CONTRACTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    for file in support.CONTRACTS:
        lines = [line for line in done.stdout.splitlines() if line.startswith(f"{file.relative_to(ROOT)}::Test")]
        assert sorted(line.rpartition("::test_")[2] for line in lines) == sorted(support.tests()), done.stdout


# --------------------------------------------------------------------------------------- links and names


def anchors(page):
    """The anchors of a page's headings, as they are made on the hosts that show it."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_links_lead_to_pages_and_headings():
    broken = []
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for link, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", text):
            if "://" in link or link.startswith("mailto:"):
                continue
            target = (page.parent / link) if link else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.relative_to(ROOT)}: {link}#{anchor}")
    assert not broken, broken


def test_the_index_lists_every_page():
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"index.md"}
    assert not {page for page in pages if f"]({page})" not in text}


def test_the_tests_that_contributing_names_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files = [*ROOT.glob("tests/*.py"), *ROOT.glob("core/src/modelexport/testing/*.py")]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    known = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    named = set(re.findall(r"`(test_\w+)`", text))
    assert named
    assert not named - known


def test_the_first_target_is_under_seventy_lines():
    (target,) = [b for b in blocks(DOCS / "tutorial" / "first-plugin.md") if b.file == "tape.py"]
    assert len(target.lines) < 70
