"""Kill `mx export` at random moments: `kill_export.py SOURCE FOLDER KILLS [more arguments of mx export]`.

Everything heavy is imported and used once here, and each run is a fork, so that a kill lands in the export
itself and not in an import. Prints what was seen, as JSON.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from modelexport import cli
from modelexport.store import manifest


def export(arguments):
    """Fork a run; its output goes nowhere."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os._exit(cli._run(arguments))
    return pid


def finish(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def timed(arguments):
    begun = time.monotonic()
    assert finish(export(arguments)) == 0
    return time.monotonic() - begun


def main():
    source, folder, kills, more = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    arguments = ["export", source, "-t", "tape", "-o", str(folder), "--name", "net", *more]
    final = folder / "net.tape"
    assert cli._run([*arguments[:4], "-o", str(folder / ".warm")]) == 0
    duration = min(timed(arguments) for _ in range(3))
    random.seed(1)
    seen = {"duration": duration, "killed": 0, "finished": 0, "leftovers": 0, "absent": 0, "whole": 0}
    for index in range(kills):
        replacing = index % 2 == 1
        if not replacing and final.exists():
            shutil.rmtree(final)
        elif replacing and not final.exists():
            assert finish(export(arguments)) == 0
        pid = export(arguments)
        time.sleep(random.uniform(0.05, 1.0) * duration)
        os.kill(pid, signal.SIGKILL)
        code = finish(pid)
        assert code in (-signal.SIGKILL, 0), code
        seen["killed" if code else "finished"] += 1
        names = [path.name for path in folder.iterdir() if path.name != ".warm"]
        hidden = [name for name in names if name != "net.tape"]
        assert all(name.startswith(".net.tape.") and name.endswith(".tmp") for name in hidden), hidden
        seen["leftovers"] += bool(hidden)
        if final.exists():
            manifest.read(final)
            seen["whole"] += 1
        else:
            assert not replacing, "the artifact that was there is gone"
            seen["absent"] += 1
    assert finish(export(arguments)) == 0
    manifest.read(final)
    assert [path.name for path in folder.iterdir() if path.name != ".warm"] == ["net.tape"]
    print(json.dumps(seen))


main()
