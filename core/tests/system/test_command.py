"""The command as a user starts it: in a shell, on a terminal, into a pipe; and the gate's processes."""

import os
import subprocess
import sys
from pathlib import Path

import modelexport
import pytest

pytestmark = pytest.mark.usefixtures("toys")

MX = Path(sys.executable).with_name("mx")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("mx exp", {"export"}),
        ("mx export net.py:net --tar", {"--target"}),
        ("mx export net.py:net -t ta", {"tape"}),
        ("mx completion z", {"zsh"}),
        ("mx exprot x", set()),
    ],
)
def test_completion_offers(typed, offered):
    words = typed.split()
    variables = {"_MX_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run([MX], env={**os.environ, **variables}, capture_output=True, text=True, timeout=60)
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} >= offered
    assert "Traceback" not in done.stderr


def test_progress_and_warnings_stay_out_of_a_pipe(mx_process, nets, tmp_path):
    done = mx_process("export", nets("two", "two"), "-t", "tape", "-t", "captured", "-o", tmp_path, "--json")
    assert (done.code, done.err) == (0, "")
    assert [artifact["format"] for artifact in done.json["artifacts"]] == ["tape", "captured"]


def test_progress_is_shown_on_a_terminal(nets, tmp_path):
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")
    leader, follower = pty.openpty()
    command = [MX, "export", nets("two", "two"), "-t", "tape", "-o", tmp_path]
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
        assert "two.tape" in process.stdout.read()
    os.close(leader)
    assert process.returncode == 0
    for stage in ("load the model", "compute the reference", "capture", "convert to tape", "verify tape"):
        assert stage in shown.decode()


def test_a_reader_that_goes_away_is_no_error(artifact):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [MX, "inspect", artifact, "--json"], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(write)
    assert "Traceback" not in done.stderr
    assert done.returncode != 0


# --------------------------------------------------------------------------------------- the gate's processes


def test_a_third_party_target_in_a_fresh_process(mx_process, nets, tmp_path, read_manifest):
    """A wrong export by a naive converter is found, and its twin passes, by the command alone."""
    wrong = mx_process("export", nets("traps", "branch"), "-t", "tracer", "-o", tmp_path / "a")
    assert wrong.code == 3, wrong.err
    assert "hint: look at" in wrong.err
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["branch.tracer.failed"]
    failed = read_manifest(tmp_path / "a" / "branch.tracer.failed")
    assert failed["verified"] is False
    assert failed["parity"]["reason"] in wrong.error
    right = mx_process("export", nets("traps", "branch_twin"), "-t", "tracer", "-o", tmp_path / "b", "--json")
    assert right.code == 0, right.err
    assert right.json["artifacts"][0]["verified"] is True
    step = read_manifest(tmp_path / "b" / "branch_twin.tracer")["lineage"][-1]
    assert step["tools"]["toy-tracer"] == "1.0"


def test_every_verification_has_a_process_of_its_own(copy, monkeypatch):
    from modelexport.gate import worker

    started, popen = [], subprocess.Popen
    monkeypatch.setattr(worker.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    for _ in range(2):
        assert modelexport.verify(copy).parity.verified is True
    assert len({process.pid for process in started} - {os.getpid()}) == 2
    assert all(process.poll() is not None for process in started), "none is left behind"


def test_the_gate_runs_where_torch_is_not_importable(copy, toys, tmp_path):
    """Its process needs the artifact and its runtime only."""
    (tmp_path / "torch.py").write_text("raise ImportError('torch is not here')\n")
    script = "import sys; from modelexport import verify; print(verify(sys.argv[1]).parity.verified)"
    done = subprocess.run(
        [sys.executable, "-c", script, copy],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tmp_path, toys)))},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "True", done.stderr
