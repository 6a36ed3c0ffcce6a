"""Commands of other distributions: listed without an import, run as mx's own are, harmless when broken."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from modelexport.errors import InputError, TargetError

WORKING = """
import click
from modelexport.errors import InputError

@click.command()
@click.option("--name", default="you")
def command(name):
    "Greet."
    if name == "nobody":
        raise InputError("nobody is here", "give a name")
    if name == "bug":
        raise KeyError("bug")
    if name == "leave":
        raise SystemExit(3)
    click.echo(f"hello {name}")
"""


@pytest.fixture
def install(tmp_path):
    """Write a distribution with one command; returns the environment in which `mx` finds it."""

    def write(name, code, value=None, summary="Greets people.", requires=""):
        module = f"mx_test_{name}"
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {module}\nVersion: 1.0\nSummary: {summary}\n{requires}\n")
        (info / "entry_points.txt").write_text(f"[mx.commands]\n{name} = {value or f'{module}:command'}\n")
        paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

    return write


def start(environment, *arguments):
    script = "import sys; from modelexport.cli import main; sys.argv[0] = 'mx'; main()"
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_a_command_is_listed_and_run(install):
    environment = install("greet", WORKING)
    listed = start(environment, "--help").stdout
    assert "Commands of other distributions:\n  greet  Greets people." in listed
    assert start(environment, "greet", "--name", "me").stdout == "hello me\n"
    helped = start(environment, "greet", "--help")
    assert "Usage: mx greet [OPTIONS]" in helped.stdout
    assert "--debug" in helped.stdout


def test_listing_imports_nothing_of_it(install):
    environment = install("greet", "raise SystemExit('imported')")
    for arguments in (["--help"], ["targets"], ["export", "--help"]):
        done = start(environment, *arguments)
        assert (done.returncode, done.stderr) == (0, "")


def test_its_errors_are_told_as_mxs_own_are(install):
    environment = install("greet", WORKING)
    done = start(environment, "greet", "--name", "nobody")
    assert done.returncode == InputError.exit_code
    assert done.stderr == "error: nobody is here\nhint: give a name\n"
    assert "Traceback" in start(environment, "greet", "--name", "nobody", "--debug").stderr
    assert start(environment, "greet", "--name", "leave").returncode == 3
    bug = start(environment, "greet", "--name", "bug")
    assert bug.returncode == TargetError.exit_code
    assert bug.stderr == (
        "error: command 'greet' (mx-test-greet 1.0) failed: KeyError: 'bug'\n"
        "hint: --debug shows the whole trace; it is mx-test-greet's to mend\n"
    )
    assert "Traceback" in start(environment, "greet", "--name", "bug", "--debug").stderr
    assert "Did you mean '--name'?" in start(environment, "greet", "--nmae").stderr
    assert "did you mean 'greet'?" in start(environment, "gret").stderr


@pytest.mark.parametrize(
    ("code", "value", "requires", "said"),
    [
        ("import no_such_module", None, "", "No module named 'no_such_module'"),
        ("raise SystemExit(3)", None, "", "SystemExit: 3"),
        ("command = print", None, "", "is no click command, but a builtin_function_or_method"),
        ("command = 3", None, "", "is no click command, but an int"),
        (WORKING, "mx_test_greet:no", "", "has no attribute 'no'"),
        (WORKING, None, "Requires-Dist: modelexport>=99", "it is for modelexport 99"),
    ],
)
def test_a_broken_one_breaks_nothing_but_itself(install, code, value, requires, said):
    environment = install("greet", code, value, requires=requires)
    assert "greet" in start(environment, "--help").stdout
    done = start(environment, "greet")
    assert done.returncode == TargetError.exit_code
    assert "plugin 'greet' (mx-test-greet 1.0) is broken" in done.stderr
    assert said in done.stderr
    report = start(environment, "doctor", "--json")
    assert report.returncode == 1
    (row,) = json.loads(report.stdout)["commands"]
    assert (row["name"], row["status"]) == ("greet", "broken")
    assert (
        start(
            {**environment, "_MX_COMPLETE": "bash_complete", "COMP_WORDS": "mx greet ", "COMP_CWORD": "2"}
        ).stderr
        == ""
    )


HELPLESS = (
    WORKING
    + """
def get_help(context):
    raise ValueError("no help")
command.get_help = get_help
"""
)

GROUP = """
import click

@click.group()
def command():
    "A group."

@command.command()
@click.option("--fail", is_flag=True)
def one(fail):
    "The first."
    if fail:
        raise ValueError("several\\nlines")
    click.echo("done")

@command.group()
def inner():
    "A group in it."

@inner.command()
def two():
    "The second."
    raise ValueError("two")
"""


def test_its_help_may_fail_too(install):
    done = start(install("greet", HELPLESS), "greet", "--help")
    assert done.returncode == TargetError.exit_code
    assert "error: command 'greet' (mx-test-greet 1.0) failed: ValueError: no help" in done.stderr


def test_a_group_is_one_command_with_others_in_it(install):
    environment = install("greet", GROUP)
    bare = start(environment, "greet")
    assert (bare.returncode, bare.stderr) == (0, "")
    assert bare.stdout == start(environment, "greet", "--help").stdout
    assert "Usage: mx greet [OPTIONS] COMMAND" in bare.stdout
    assert start(environment, "greet", "one").stdout == "done\n"
    failed = start(environment, "greet", "one", "--fail")
    assert "command 'greet' (mx-test-greet 1.0) failed: ValueError: several\n" in failed.stderr
    for arguments in (["one", "--fail"], ["inner", "two"]):
        assert "Traceback" not in start(environment, "greet", *arguments).stderr
        assert "Traceback" in start(environment, "greet", *arguments, "--debug").stderr
        assert "--debug" in start(environment, "greet", *arguments[:2], "--help").stdout


def test_a_group_of_mxs_own_shows_its_help():
    bare = start(os.environ, "plugin")
    assert (bare.returncode, bare.stderr) == (0, "")
    assert bare.stdout == start(os.environ, "plugin", "--help").stdout


def test_what_it_prints_as_it_is_imported_is_no_json(install):
    environment = install("greet", "print('NOISE')\n" + WORKING)
    report = start(environment, "doctor", "--json")
    (row,) = json.loads(report.stdout)["commands"]
    assert (row["name"], row["status"]) == ("greet", "ready")
    assert "NOISE" in report.stderr


@pytest.mark.parametrize("name", ["--help", "-x", "foo bar", "a\x1b[31m"])
def test_a_name_that_no_command_can_have(install, name, tmp_path):
    environment = install("greet", WORKING)
    (tmp_path / "mx_test_greet-1.0.dist-info" / "entry_points.txt").write_text(
        f"[mx.commands]\n{name} = mx_test_greet:command\n"
    )
    assert "other distributions" not in start(environment, "--help").stdout
    (row,) = json.loads(start(environment, "doctor", "--json").stdout)["commands"]
    assert (row["status"], row["note"]) == ("broken", "no command can have this name: it is no word")
    assert row["name"].isprintable()


def test_a_summary_does_not_steer_the_terminal(install):
    listed = start(install("greet", WORKING, summary="Greets \x1b[31mpeople\x07."), "--help").stdout
    assert "greet  Greets [31mpeople." in listed


def test_an_import_error_of_several_lines_is_told_in_one(install):
    environment = install("greet", "raise ImportError('one\\n\\ntwo')")
    assert "its import raised ImportError: one two" in start(environment, "greet").stderr
    (row,) = json.loads(start(environment, "doctor", "--json").stdout)["commands"]
    assert "\n" not in row["note"]


def test_mxs_own_commands_stay_its_own(install):
    environment = install("inspect", "raise SystemExit('imported')")
    assert "Show ARTIFACT's inputs" in start(environment, "inspect", "--help").stdout
    assert "other distributions" not in start(environment, "--help").stdout
    report = json.loads(start(environment, "doctor", "--json").stdout)
    assert report["commands"][0]["note"].startswith("mx has a command 'inspect' of its own")


def test_a_known_command_that_is_not_installed_says_how_to_install_it(monkeypatch):
    from click.testing import CliRunner
    from modelexport.cli import cli
    from modelexport.plugins import known

    monkeypatch.setitem(known.COMMANDS, "serve", ("Serve artifacts.", "pip install modelexport-serve"))
    assert (
        "serve  Serve artifacts. Not installed: pip install modelexport-serve"
        in CliRunner().invoke(cli, ["--help"]).output
    )
    with pytest.raises(TargetError, match=r"'serve' is not installed.*pip install modelexport-serve"):
        cli.main(["serve"], standalone_mode=False)


def test_what_a_model_prints_as_it_is_built_is_no_json(mx, toys, tmp_path, nets):
    two = Path(nets("two", "").removesuffix(":")).read_text()
    (tmp_path / "loud.py").write_text(f"print('NOISE')\n{two}")
    made = mx("export", f"{tmp_path / 'loud.py'}:two", "-t", "tape", "-o", tmp_path, "--json")
    assert [artifact["path"] for artifact in json.loads(made.out)["artifacts"]] == [str(tmp_path / "two.tape")]
    assert "NOISE" in made.err
