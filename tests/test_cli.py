"""The `mx` command itself: help, completion, what goes to stdout and what to stderr, and broken plugins."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import modelexport
import pytest
from modelexport import cli

NET = """
import torch


def net():
    torch.manual_seed(0)
    return torch.nn.Linear(4, 3), (torch.zeros(2, 4),)
"""


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """A folder with net.py and the artifact made of it."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "net.py").write_text(NET)
    modelexport.export(f"{folder / 'net.py'}:net", "onnx", folder, inputs=["input:float32[batch=1..8,4]"])
    return folder


# --------------------------------------------------------------------------------------- help


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


def test_the_options_of_a_target_are_listed_with_type_default_and_meaning(mx, good):
    shown = mx("export", good / "net.py:net", "-t", "onnx", "-k", "help")
    assert shown.code == 0
    (line,) = (line for line in shown.out.splitlines() if line.split()[:1] == ["opset"])
    assert line.split()[1:3] == ["int", "20"]
    assert "ONNX opset" in line
    assert "auto|always" in shown.out
    running = mx("run", good / "net.onnx", "-k", "help")
    assert running.code == 0
    assert "providers" in running.out
    assert not (good / "build").exists()


# --------------------------------------------------------------------------------------- completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script(mx, shell):
    result = mx("completion", shell)
    assert result.code == 0
    assert f"_MX_COMPLETE={shell}_complete" in result.out
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=result.out, text=True, capture_output=True, timeout=60)
        assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("mx exp", {"export"}),
        ("mx export net.py:net --tar", {"--target"}),
        ("mx export net.py:net -t on", {"onnx"}),
        ("mx completion z", {"zsh"}),
        ("mx exprot x", set()),
    ],
)
def test_completion_offers(typed, offered):
    words = typed.split()
    variables = {"_MX_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    command = [Path(sys.executable).with_name("mx")]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60)
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} >= offered
    assert "Traceback" not in done.stderr


# --------------------------------------------------------------------------------------- output


def test_inspect_shows_everything_that_is_in_an_artifact(mx, good, read_manifest):
    shown = mx("inspect", good / "net.onnx")
    assert (shown.code, shown.err) == (0, "")
    for fact in (
        "input:float32[batch=1..8,4]",
        "output:float32[batch=1..8,3]",
        "verified",
        "export → onnx",
        "opset",
    ):
        assert fact in shown.out
    found = mx("inspect", good / "net.onnx", "--json").json
    assert found.pop("path") == str(good / "net.onnx")
    assert found == read_manifest(good / "net.onnx")


@pytest.mark.slow
def test_progress_and_warnings_stay_out_of_a_pipe(mx_process, good, tmp_path):
    done = mx_process("export", good / "net.py:net", "-t", "onnx", "-t", "captured", "-o", tmp_path, "--json")
    assert (done.code, done.err) == (0, "")
    assert [artifact["format"] for artifact in done.json["artifacts"]] == ["onnx", "captured"]


@pytest.mark.slow
def test_progress_is_shown_on_a_terminal(good, tmp_path):
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")
    leader, follower = pty.openpty()
    command = [Path(sys.executable).with_name("mx"), "export", good / "net.py:net", "-t", "onnx", "-o", tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower, text=True) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                part = os.read(leader, 4096)
            except OSError:  # how Linux says that the other end is closed
                break
            if not part:
                break
            shown += part
        assert "net.onnx" in process.stdout.read()
    os.close(leader)
    assert process.returncode == 0
    for stage in ("load the model", "compute the reference", "capture", "convert to onnx", "verify onnx"):
        assert stage in shown.decode()


def test_a_reader_that_goes_away_is_no_error(good):
    read, write = os.pipe()
    os.close(read)
    command = [Path(sys.executable).with_name("mx"), "inspect", good / "net.onnx", "--json"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert "Traceback" not in done.stderr
    assert done.returncode != 0


def test_an_interrupt_leaves_nothing(mx, tmp_path):
    (tmp_path / "net.py").write_text("def net():\n    raise KeyboardInterrupt\n")
    result = mx("export", tmp_path / "net.py:net", "-t", "onnx", "-o", tmp_path / "out")
    assert result.code == 130
    assert "interrupted" in result.err
    assert "Traceback" not in result.err
    assert not list(tmp_path.glob("out/*"))


def test_targets_as_json(mx):
    rows = {row["name"]: row for row in mx("targets", "--json").json["targets"]}
    assert rows["onnx"] == {
        "name": "onnx",
        "status": "ready",
        "verbs": rows["onnx"]["verbs"],
        "note": rows["onnx"]["note"],
        "distribution": "modelexport-onnx",
        "version": rows["onnx"]["version"],
    }
    assert {"export", "run"} <= set(rows["onnx"]["verbs"].split(", "))


def test_doctor_in_order(mx):
    result = mx("doctor", "--json")
    assert result.code == 0
    assert set(result.json) == {"environment", "targets", "sources", "extensions"}
    assert result.json["environment"]["modelexport"] == modelexport.__version__


# --------------------------------------------------------------------------------------- broken plugins

TARGET = """
from modelexport import Build, Session, Target, hookimpl


@hookimpl
def mx_target():
    return Target(name={name!r}, summary="a target of a test")
"""

#: entry point → its module's code, and what `mx targets` must say about it
BROKEN = {
    "raises": ("import torch_for_gameboy\n", "torch_for_gameboy"),
    "syntax": ("def mx_target(:\n", "SyntaxError"),
    "exits": ("raise SystemExit('buy a licence')\n", "buy a licence"),
    "misspelt": (
        TARGET.format(name="misspelt") + "\n\n@hookimpl\ndef mx_exprot(source, out, options):\n    pass\n",
        "mx_exprot",
    ),
    "unmarked": (
        TARGET.format(name="unmarked") + "\n\ndef mx_run(artifact, options):\n    pass\n",
        "mx_run lacks the",
    ),
    "renamed": (TARGET.format(name="another"), "'another'"),
    "parameter": (TARGET.format(name="parameter") + "\n\n@hookimpl\ndef mx_run(model):\n    pass\n", "model"),
    "silent": ("from modelexport import hookimpl\n", "returns no modelexport.Target"),
    "refuses": (TARGET.format(name="x").replace("return Target", "raise ValueError('no') #"), "ValueError: no"),
    "attribute": (TARGET.format(name="attribute"), "no_such_object"),
}


def install(site, distribution, entries, version="1.0"):
    info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entries)


@pytest.fixture(scope="session")
def broken(tmp_path_factory):
    """Run `mx` where one plugin of every broken kind is installed beside a good one."""
    site = tmp_path_factory.mktemp("site")
    for name, (code, _) in BROKEN.items():
        (site / f"broken_{name}.py").write_text(code)
        suffix = ":no_such_object" if name == "attribute" else ""
        install(site, f"broken-{name}", f"[mx.targets]\n{name} = broken_{name}{suffix}\n")
    (site / "fine.py").write_text(TARGET.format(name="fine"))
    install(site, "fine", "[mx.targets]\nfine = fine\n")
    (site / "twin.py").write_text(TARGET.format(name="twin"))
    install(site, "twin-one", "[mx.targets]\ntwin = twin\n")
    install(site, "twin-two", "[mx.targets]\ntwin = twin\n")
    install(site, "broken-source", "[mx.sources]\nbadsource = broken_raises\n")
    install(site, "broken-extension", "[mx.extensions]\nbadextension = broken_raises\n")

    def run(*arguments):
        path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        command = [Path(sys.executable).with_name("mx"), *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    return run


def test_targets_lists_each_broken_plugin_with_its_owner_and_error(broken):
    done = broken("targets", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["targets"]}
    for name, (_, fact) in BROKEN.items():
        assert rows[name]["status"] == "broken", rows[name]
        assert fact in rows[name]["note"], rows[name]
        assert f"broken-{name}" in rows[name]["note"]
        assert (rows[name]["distribution"], rows[name]["version"]) == (f"broken-{name}", "1.0")
    assert rows["twin"]["status"] == "broken"
    assert "twin-one and twin-two" in rows["twin"]["note"]
    assert (rows["fine"]["status"], rows["onnx"]["status"]) == ("ready", "ready")


def test_entry_points_that_are_no_text_break_nothing(mx_process, tmp_path):
    install(tmp_path, "odd", "")
    (tmp_path / "odd-1.0.dist-info" / "entry_points.txt").write_bytes(b"[mx.targets]\n\xff\xfe = nothing\n")
    done = mx_process("targets", "--json", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.code == 0, done.err
    rows = {row["distribution"]: row for row in done.json["targets"]}
    assert (rows["odd"]["status"], rows["modelexport-onnx"]["status"]) == ("broken", "ready")


def test_targets_as_a_table_shows_them_in_one_line_each(broken):
    done = broken("targets")
    assert done.returncode == 0
    for name, (_, fact) in BROKEN.items():
        (line,) = (line for line in done.stdout.splitlines() if line.split()[:1] == [name])
        assert fact in line
    assert "Traceback" not in done.stdout + done.stderr


def test_doctor_ends_with_1_and_names_every_fault(broken):
    done = broken("doctor", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    faulty = {row["name"] for group in ("targets", "sources", "extensions") for row in report[group]
              if row["status"] == "broken"}  # fmt: skip
    assert faulty == {*BROKEN, "twin", "badsource", "badextension"}


def test_everything_else_works_beside_broken_plugins(broken, good, tmp_path):
    exported = broken("export", good / "net.py:net", "-t", "onnx", "-o", tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert broken("verify", tmp_path / "net.onnx").returncode == 0
    done = broken("run", tmp_path / "net.onnx", "--input", "input=1", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["output"][0]) == 3


@pytest.mark.parametrize("name", [*BROKEN, "twin"])
def test_asking_for_a_broken_target_is_one_line(broken, good, tmp_path, name):
    done = broken("export", good / "net.py:net", "-t", name, "-o", tmp_path / "out")
    assert done.returncode == 5, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("warning: extension skipped")]
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"]
    assert "uninstall" in lines[1]
    assert not (tmp_path / "out").exists()


def test_a_target_that_can_not_export_says_what_it_can(broken, good):
    done = broken("export", good / "net.py:net", "-t", "fine")
    assert done.returncode == 5
    assert "target 'fine' can't export" in done.stderr
