"""Stop commands at random moments: `stop.py FOLDER COUNT SIGNAL,… OUTPUT mx-arguments…`.

Each run is a fork of a process that has imported everything, in a session and with a temporary folder of its own:
a signal lands in the work itself, and what a run leaves can be told from what is there. `OUTPUT` is the artifact
that the command writes. Prints what was seen, as JSON.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from modelexport import cli
from modelexport.cli import stopping
from modelexport.store import manifest

#: seconds within which a run that was asked to end must have ended
LONGEST = 30


def start(arguments, temporary):
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.environ["TMPDIR"] = str(temporary)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        stopping.listen()
        os._exit(cli._run(arguments))
    return pid


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def orphans(session):
    """The processes of a session that are still there, but for those that end this moment."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        left = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _session(pid) == session]
        if not left:
            return []
        time.sleep(0.05)
    return left


def _session(pid):
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if status[0] == "Z" else int(status[3])


def main():
    folder, count, names, output, arguments = (
        Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(","), Path(sys.argv[4]), sys.argv[5:],
    )  # fmt: skip
    temporary = folder / "temporary"
    temporary.mkdir()
    begun = time.monotonic()
    assert ended(start(arguments, temporary)) == 0
    duration = time.monotonic() - begun
    assert ended(start(arguments, temporary)) == 0
    duration = min(duration, time.monotonic() - begun - duration)
    assert not list(temporary.iterdir()), list(temporary.iterdir())
    usual = {path.name for path in output.parent.iterdir()}
    random.seed(1)
    seen = {"duration": duration, "finished": 0, "leftovers": 0} | dict.fromkeys(names, 0)
    for index in range(count):
        name = names[index % len(names)]
        number = signal.Signals[name]
        pid = start(arguments, temporary)
        time.sleep(random.uniform(0.02, 1.0) * duration)
        os.kill(pid, number)
        asked = time.monotonic()
        code = ended(pid)
        assert time.monotonic() - asked < LONGEST, f"{name}: it took {time.monotonic() - asked:.1f} s to end"
        assert not orphans(pid), f"{name}: orphans"
        manifest.read(output)
        left = [*temporary.iterdir(), *(path for path in output.parent.iterdir() if path.name not in usual)]
        if code == 0:
            seen["finished"] += 1
        elif number == signal.SIGKILL:
            assert code == -number, code
        else:
            assert code == 128 + number, (name, code)
        if number == signal.SIGKILL:
            seen["leftovers"] += bool(left)
        else:
            assert not left, f"{name} left {left}"
        seen[name] += code != 0
        if left:
            assert ended(start(arguments, temporary)) == 0
            left = [*temporary.iterdir(), *(path for path in output.parent.iterdir() if path.name not in usual)]
            assert not left, f"the run after {name} left {left}"
    print(json.dumps(seen))


main()
