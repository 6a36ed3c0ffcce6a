"""Where stdout leads nowhere: to a reader that has gone, a full disk, or a descriptor that is closed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from modelexport.errors import OutputError, UsageError

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this system")

MX = Path(sys.executable).with_name("mx")

#: commands that print much, little, JSON, and an error; two of them do their work in a process of its own
PRINTING = (
    ["--help"],
    ["targets"],
    ["targets", "--json"],
    ["run", "{artifact}", "--input", "x=0.5", "--input", "ids=1"],
    ["run", "{artifact}", "--input", "x=0.5", "--input", "ids=1", "--json"],
)


@pytest.fixture
def run(artifact, toys):
    def started(arguments, **streams):
        command = [MX, *(argument.format(artifact=artifact) for argument in arguments)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **streams)

    return started


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_reader_that_has_gone_ends_it_with_141_and_no_word(run, arguments):
    process = run(arguments, stdout=subprocess.PIPE)
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (141, "")


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_full_disk_is_said(run, arguments):
    with open("/dev/full", "w") as full:
        process = run(arguments, stdout=full)
    assert process.wait(60) == OutputError.exit_code
    assert process.stderr.read().startswith("error: can't write to stdout: No space left on device\nhint: ")


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_closed_stdout_is_none(run, arguments):
    """As for any program: there is nobody to tell."""
    process = run(arguments, stdout=subprocess.DEVNULL, preexec_fn=lambda: __import__("os").close(1))
    assert (process.wait(60), process.stderr.read()) == (0, "")


def test_an_error_is_said_on_stderr_though_its_json_can_not_be_written(run):
    with open("/dev/full", "w") as full:
        process = run(["nope", "--json"], stdout=full)
    assert process.wait(60) == UsageError.exit_code
    assert process.stderr.read().startswith("error: there is no command 'nope'\n")


def test_what_native_code_prints_is_no_part_of_the_json(tmp_path):
    """As a model's own print in a compiled language does: to the descriptor, past Python."""
    code = (
        "import ctypes, os; from modelexport.cli.show import tables\n"
        "with tables.json_alone():\n"
        "    ctypes.CDLL(None).puts(b'printed'); os.write(1, b'written\\n'); print('said')\n"
        "    tables.as_json({'a': 1})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"a": 1}
    assert sorted(done.stderr.split()) == ["printed", "said", "written"]
