"""The `mx` command itself: help, completion scripts, and what goes to stdout."""

import shlex
import shutil
import subprocess

import click
import modelexport
import pytest
from modelexport import cli

pytestmark = pytest.mark.usefixtures("toys")


def commands():
    return {name: cli.cli.get_command(None, name) for name in cli.COMMANDS}


def examples(command):
    lines = (command.epilog or "").splitlines()
    return [line.strip() for line in lines if line.startswith("  ")]


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help_with_examples(mx, name):
    result = mx(name, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"Usage: mx {name}" in result.out
    assert "Examples:" in result.out
    assert len(examples(commands()[name])) >= 2
    assert all(option.help for option in commands()[name].params if isinstance(option, click.Option))
    if name != "completion" and not isinstance(commands()[name], click.Group):
        assert "--json" in result.out
        assert "--debug" in result.out


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_example_is_a_command_that_mx_understands(name):
    for line in examples(commands()[name]):
        line = line.removeprefix('eval "$(').removesuffix(')"').partition(" > ")[0]
        words = shlex.split(line)
        assert words[:2] == ["mx", name], line
        commands()[name].make_context(name, words[2:])  # raises for an unknown option or a missing argument


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]], ids=["none", "short", "long"])
def test_the_command_alone_shows_every_command(mx, arguments):
    result = mx(*arguments)
    assert result.code == 0
    assert all(f"  {name}" in result.out for name in cli.COMMANDS)


def test_the_version(mx):
    result = mx("--version")
    assert result.code == 0
    assert modelexport.__version__ in result.out


def test_the_options_of_a_target_are_listed_with_type_default_and_meaning(mx, artifact, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = mx("export", artifact.parent / "two.py:two", "-t", "tape", "-k", "help")
    assert shown.code == 0
    (line,) = (line for line in shown.out.splitlines() if line.split()[:1] == ["version"])
    assert line.split()[1:3] == ["int", "2"]
    assert "version of the format, 1 to 3" in line
    assert "inside|beside" in shown.out
    assert "list of str" in shown.out
    running = mx("run", artifact, "-k", "help")
    assert running.code == 0
    assert "list of abacus|cpu" in running.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script(mx, shell):
    result = mx("completion", shell)
    assert result.code == 0
    assert f"_MX_COMPLETE={shell}_complete" in result.out
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=result.out, text=True, capture_output=True, timeout=60)
        assert checked.returncode == 0, checked.stderr


def test_an_interrupt_leaves_nothing(mx, tmp_path):
    (tmp_path / "net.py").write_text("def net():\n    raise KeyboardInterrupt\n")
    result = mx("export", tmp_path / "net.py:net", "-t", "tape", "-o", tmp_path / "out")
    assert result.code == 130
    assert "interrupted" in result.err
    assert "Traceback" not in result.err
    assert not list(tmp_path.glob("out/*"))


def test_inspect_shows_everything_that_is_in_an_artifact(mx, artifact, read_manifest):
    shown = mx("inspect", artifact)
    assert (shown.code, shown.err) == (0, "")
    for fact in (
        "x:float32[batch=1..8,4]",
        "ids:int64[batch=1..8,seq=1..6]=0..9",
        "output:float32[batch=1..8,4]",
        "verified",
        "export → tape",
        "operators",
    ):
        assert fact in shown.out
    found = mx("inspect", artifact, "--json").json
    assert found.pop("path") == str(artifact)
    assert found == read_manifest(artifact)


def test_export_as_json_is_the_manifest_and_is_stable(mx, artifact, tmp_path, read_manifest):
    found = []
    for folder in ("one", "two"):
        command = ("export", artifact.parent / "two.py:two", "-t", "tape", "-o", tmp_path / folder, "--json")
        result = mx(*command)
        assert result.code == 0, result.err
        (shown,) = result.json["artifacts"]
        place = shown.pop("path")
        assert place == str(tmp_path / folder / "two.tape")
        assert shown == read_manifest(place)
        found.append(shown)
    assert found[0] == found[1]
    assert set(found[0]) == {
        *("schema", "format", "entry", "precision", "dims", "inputs", "outputs", "verified", "parity", "lineage"),
        *("processing", "details", "files"),
    }
    assert found[0]["inputs"][0] == {"name": "x", "dtype": "float32", "shape": ["batch", 4]}
    assert found[0]["dims"]["batch"] == {"min": 1, "max": 8, "multiple": 1}
    assert found[0]["verified"] is True
