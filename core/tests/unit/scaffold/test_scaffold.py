"""`mx plugin new`: every combination of parts is a distribution that imports, and nothing is written over."""

import ast
import itertools
import re

import pytest
from modelexport import scaffold
from modelexport.contract import CAPTURED, MODULE
from modelexport.errors import OptionError, OutputError

from core.tests.conftest import installed

COMBINATIONS = [
    parts for count in range(len(scaffold.PARTS) + 1) for parts in itertools.combinations(scaffold.PARTS, count)
]


def test_parts_are_named_together_or_one_after_another(mx, tmp_path):
    for name, arguments in {"one": ["quantize,source"], "two": ["quantize", "--with", "source"]}.items():
        assert mx("plugin", "new", name, "--with", *arguments, "-o", tmp_path).code == 0
        written = {file.name for file in (tmp_path / f"modelexport-{name}").rglob("*.py")}
        assert {"quantize.py", "source.py"} < written


@pytest.mark.parametrize("name", ["onnx", "module", "captured"])
def test_the_name_of_a_target_is_taken(name, mx, tmp_path):
    refused = mx("plugin", "new", name, "-o", tmp_path)
    assert (refused.code, refused.error) == (OptionError.exit_code, f"there is a target {name!r} already")
    assert not list(tmp_path.iterdir())


def test_a_format_that_no_target_makes_is_told(mx, tmp_path):
    written = mx("plugin", "new", "mine", "--consumes", "onx", "-o", tmp_path)
    assert written.code == 0
    assert written.err == "note: no target makes 'onx', so only a source can: did you mean 'onnx'?\n"
    assert mx("plugin", "new", "yours", "--consumes", "onnx", "-o", tmp_path).err == ""


def test_a_plugin_says_that_it_is_typed(tmp_path):
    package = scaffold.write("mine", CAPTURED, tmp_path) / "src" / "modelexport_mine"
    assert (package / "py.typed").read_bytes() == b""


@pytest.mark.parametrize("consumes", [MODULE, CAPTURED, "other"])
def test_every_scaffold_imports_and_describes_itself(consumes, tmp_path):
    from modelexport.plugins import entries, manager

    for number, parts in enumerate(COMBINATIONS):
        folder = scaffold.write(f"two-words{number}", consumes, tmp_path, parts)
        package = folder / "src" / f"modelexport_two_words{number}"
        for file in folder.rglob("*.py"):
            tree = ast.parse(file.read_text())
            assert ast.get_docstring(tree), file
        modules = {"export.py", "session.py", "files.py", "operators.py", "backend.py"}
        modules |= {scaffold.PARTS[part].module for part in parts}
        assert {file.name for file in package.glob("*.py")} == {"__init__.py", *modules}
        for module in modules:
            assert re.search(rf"^{module} ", (package / "__init__.py").read_text(), re.MULTILINE), module
        with installed(package.parent):
            point = entries.EntryPoint("mx.targets", f"two-words{number}", package.name, "toy", "1.0")
            manager.check_entry(entries.Entry(point.name, point))
            target = point.load().mx_target()
        assert (target.name, target.consumes[0]) == (f"two-words{number}", consumes)
        assert set(target.verbs) - {"export", "run"} == {
            part for part in parts if part in ("optimize", "quantize")
        }


def test_a_scaffold_is_not_written_over(mx, tmp_path):
    assert mx("plugin", "new", "toy", "-o", tmp_path).code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = mx("plugin", "new", "toy", "-o", tmp_path)
    assert done.code == OutputError.exit_code
    assert "is there already" in done.error
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_next_steps_name_files_that_are_there(mx, tmp_path):
    done = mx("plugin", "new", "toy", "--with", "quantize,source", "-o", tmp_path)
    folder = tmp_path / "modelexport-toy"
    assert done.out.startswith(f"{folder}: now\n")
    named = [word for word in done.out.split() if word.startswith(f"{folder}/")]
    assert len(named) == 2
    assert all((tmp_path / word).exists() for word in named)
    assert (folder / "src" / "modelexport_toy" / "quantize.py").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("plugin", "new", "Not A Name"), 6, "lower-case"),
        (("plugin", "new", "toy", "--with", "quantise"), 6, "did you mean 'quantize'?"),
        (("plugin", "check", "nonesuch"), 5, "unknown target"),
        (("plugin", "check", "captured", "--tests", "nowhere.py"), 9, "nowhere.py"),
    ],
)
def test_bad_input(mx, arguments, code, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = mx(*arguments)
    assert done.code == code
    assert said in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_packages_is_refused():
    with pytest.raises(OptionError, match="can't be a target's name"):
        scaffold.write("9lives", CAPTURED, None)
