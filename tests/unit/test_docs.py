"""What can be generated of the documentation is compared with the code, and pages are executed strictly enough.

The pages themselves are executed by docs/pages.py: `pytest docs README.md`.
"""

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from modelexport import errors
from modelexport.contract import hooks

from docs.pages import PAGES, agree, blocks, run_page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


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
    files = [*ROOT.glob("tests/**/test_*.py"), *ROOT.glob("core/**/test_*.py")]
    files += ROOT.glob("core/src/modelexport/testing/*.py")
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    known = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    named = set(re.findall(r"`(test_\w+)`", text))
    assert named
    assert not named - known


def test_the_first_target_is_under_seventy_lines():
    (target,) = [b for b in blocks(DOCS / "tutorial" / "first-plugin.md") if b.file == "tape.py"]
    assert len(target.lines) < 70
