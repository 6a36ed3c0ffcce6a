"""Readers of an artifact beside a writer that replaces it: `readers.py FOLDER ONE TWO SECONDS READERS`.

ONE and TWO are artifacts of the same model with other weights; the writer puts a copy of each in turn at
FOLDER/net.FORMAT. Each reader does one of: verify (which writes the manifest), run and compare with the golden
data, read every file. Prints what was seen, as JSON.
"""

import json
import os
import shutil
import sys
import time
import traceback
from pathlib import Path

import modelexport
import numpy as np
from modelexport.gate import golden
from modelexport.gate.opening import open_artifact
from modelexport.store import manifest, staging, versions


def write(final, sources, ends):
    count = 0
    while time.monotonic() < ends:
        with staging.staged(final) as draft:
            shutil.copytree(sources[count % 2], draft, dirs_exist_ok=True)
            staging.publish(draft, final)
        count += 1
    return {"replaced": count}


def verify(final, ends):
    """The gate in a fresh process: a good artifact is never called wrong, and stays whole."""
    count = 0
    while time.monotonic() < ends:
        assert modelexport.verify(final).parity.verified is True
        count += 1
    return {"verified": count}


def run(final, ends):
    """A session and golden data of one version: the answers are equal."""
    count = 0

    def both():
        artifact, session = open_artifact(final, {})
        return golden.load(artifact.golden), session

    while time.monotonic() < ends:
        answers, session = versions.steady(final, both, undo=lambda both: both[1].close())
        with session:
            case = answers.cases[0]
            for name, array in session(case.inputs).items():
                np.testing.assert_allclose(array, case.outputs[name], rtol=1e-4, atol=1e-5)
        count += 1
    return {"run": count}


def read(final, ends):
    count = 0
    while time.monotonic() < ends:
        manifest.read(final)
        count += 1
    return {"read": count}


def main():
    folder, one, two, seconds, readers = Path(sys.argv[1]), sys.argv[2], sys.argv[3], *map(float, sys.argv[4:6])
    final = folder / Path(one).name
    shutil.copytree(one, final)
    works = [verify, run, read]
    ends = time.monotonic() + seconds
    pids = []
    for index in range(int(readers)):
        pids.append(os.fork())
        if pids[-1] == 0:
            code = 1
            try:
                seen = works[index % len(works)](final, ends)
                (folder / f"seen{index}.json").write_text(json.dumps(seen))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
    seen = write(final, (one, two), ends)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert codes == [0] * len(pids), codes
    for index in range(len(pids)):
        for key, count in json.loads((folder / f"seen{index}.json").read_text()).items():
            seen[key] = seen.get(key, 0) + count
    manifest.read(final)
    print(json.dumps(seen))


main()
