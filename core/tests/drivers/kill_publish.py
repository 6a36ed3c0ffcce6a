"""Kill writers of artifacts at random moments, many times, and look at what each leaves.

    kill_publish.py FOLDER SECONDS [fallback]

Writers are forks, so that hundreds are killed in seconds. `fallback` stands for a system that can't exchange
two directories. Prints what was seen, as JSON; any artifact that is not whole ends it with an exception.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from modelexport.contract import Artifact, Dim, TensorSpec
from modelexport.store import manifest, staging

SPEC = (TensorSpec("x", "float32", (Dim("batch"), 3)),)


def write_once(final, generation):
    with staging.staged(final) as draft:
        for index in range(4):
            (draft / f"part{index}.bin").write_bytes(bytes([generation % 256]) * 200_000)
        artifact = Artifact(draft, "toy", "part0.bin", SPEC, SPEC, files=manifest.list_files(draft))
        manifest.write(artifact)
        staging.publish(draft, final)


def write_forever(final):
    generation = random.randrange(256)
    while True:
        generation += 1
        write_once(final, generation)


def is_whole(final):
    """Raises unless the artifact is complete, and of one generation."""
    artifact = manifest.read(final)
    assert len(artifact.files) == 4, artifact.files
    assert len({entry.sha256 for entry in artifact.files}) == 1, "parts of two generations"


def look(final, seen, must_exist):
    visible = [path.name for path in final.parent.iterdir() if not path.name.startswith(".")]
    assert set(visible) <= {final.name}, visible
    hidden = [path for path in final.parent.iterdir() if path.name.startswith(".")]
    assert all(path.suffix in (".tmp", ".old") for path in hidden), hidden
    seen["drafts"] += any(path.suffix == ".tmp" for path in hidden)
    seen["moved aside"] += any(path.suffix == ".old" for path in hidden)
    if final.exists():
        is_whole(final)
        seen["whole"] += 1
    else:
        assert not must_exist, f"the artifact that was there is gone; left: {hidden}"
        seen["absent"] += 1


def kill_one(final, delay):
    pid = os.fork()
    if pid == 0:
        try:
            write_forever(final)
        finally:
            os._exit(1)
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the writer ended by itself"


def main():
    folder, seconds, fallback = Path(sys.argv[1]), float(sys.argv[2]), "fallback" in sys.argv[3:]
    if fallback:
        staging._exchange = lambda *_: False
        rename = Path.rename

        def slow_rename(path, target):
            """Real renames, with a moment after each for a kill to land in."""
            renamed = rename(path, target)
            time.sleep(0.001)
            return renamed

        Path.rename = slow_rename
    random.seed(0)
    final = folder / "net[1].toy"
    seen = {"kills": 0, "drafts": 0, "moved aside": 0, "whole": 0, "absent": 0, "restored": 0}
    begun = time.monotonic()
    for generation in (1, 2):
        write_once(final, generation)
    span = max(0.02, time.monotonic() - begun)  # kills must land in all of a write, on a busy machine too
    ends = time.monotonic() + seconds
    while time.monotonic() < ends or (fallback and not seen["moved aside"] and time.monotonic() < ends + 60):
        fresh = seen["kills"] % 2 == 0
        if fresh and final.exists():
            shutil.rmtree(final)
        must_exist = not fresh and final.exists() and not fallback
        had = final.exists()
        kill_one(final, random.uniform(0.0, span))
        seen["kills"] += 1
        look(final, seen, must_exist)
        if had and not final.exists():
            # only where directories can't be exchanged: the next run brings the old artifact back
            with staging.staged(final):
                is_whole(final)
            seen["restored"] += 1
        if seen["kills"] % 5 == 0:
            write_once(final, 7)
            is_whole(final)
            assert [path.name for path in folder.iterdir()] == [final.name], list(folder.iterdir())
    print(json.dumps(seen))


main()
