"""Work that takes its process down, or is stopped: what the process that waits for it makes of that."""

import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="nothing is guarded on this system")

DRIVER = """
import os, signal, sys, time
from modelexport.cli.guard import guarded

def work():
{work}

sys.exit(guarded(work, lambda name: print("crashed:", name) or 13))
"""


def start(work):
    code = DRIVER.format(work="\n".join(f"    {line}" for line in work.splitlines()))
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(work):
    process = start(work)
    out, err = process.communicate(timeout=30)
    return process.returncode, out.strip(), err


def test_native_code_that_ends_the_process_by_itself_is_a_crash():
    assert ended("os._exit(1)") == (13, "crashed: exit status 1", "")


@pytest.mark.parametrize("status", [0, 3, 130])
def test_the_status_is_that_of_the_work(status):
    assert ended(f"print('done'); return {status}")[:2] == (status, "done")


@pytest.mark.parametrize("name", ["SIGABRT", "SIGSEGV", "SIGBUS", "SIGKILL"])
def test_a_crash_is_told(name):
    assert ended(f"os.kill(os.getpid(), signal.{name})")[:2] == (13, f"crashed: {name}")


def test_an_abort_in_native_code_is_told():
    assert ended("os.abort()")[:2] == (13, "crashed: SIGABRT")


def test_an_exception_goes_its_way():
    code, _, err = ended("raise ValueError('mine')")
    assert code == 1
    assert "ValueError: mine" in err


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_reaches_the_work(name):
    """It gets time to clean up, and its status is what remains."""
    process = start(
        f"signal.signal(signal.{name}, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))\n"
        "try:\n    print('ready', flush=True)\n    while True: time.sleep(0.05)\n"  # a signal just before is late
        "except KeyboardInterrupt:\n    print('cleaned', flush=True)\n    return 130"
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, name))
    out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (130, "cleaned\n")


def test_a_signal_that_the_work_does_not_handle_ends_both():
    process = start("print('ready', flush=True)\ntime.sleep(30)")
    process.stdout.readline()
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel is asked for it on Linux")
def test_the_work_ends_with_the_process_that_waits_for_it():
    process = start("print(os.getpid(), flush=True)\ntime.sleep(30)")
    child = int(process.stdout.readline())
    process.kill()
    process.wait(timeout=10)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _runs(child):
        time.sleep(0.02)
    assert not _runs(child)


def _runs(process):
    try:
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_mx_says_it_in_its_own_words():
    """The command as it is installed, made to abort as a runtime would."""
    code = (
        "import os, sys\nfrom modelexport import cli\n"
        "cli._run = lambda arguments: os.abort()\n"
        "sys.argv = ['mx', 'run', 'x', '--json']\ncli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 13
    assert '"kind": "RuntimeFailure"' in done.stdout
    assert "took the process down (SIGABRT)" in done.stderr
