"""Writers that publish at one place at the same time: `race_publish.py FOLDER WRITERS ROUNDS`."""

import os
import sys
import traceback
from pathlib import Path

from modelexport.contract import Artifact, TensorSpec
from modelexport.store import manifest, staging

SPEC = (TensorSpec("x", "float32", (3,)),)


def main():
    folder, writers, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    final = folder / "net.toy"
    pids = []
    for writer in range(writers):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for _ in range(rounds):
                    with staging.staged(final) as draft:
                        (draft / "part.bin").write_bytes(bytes([writer]) * 10_000)
                        files = manifest.list_files(draft)
                        manifest.write(Artifact(draft, "toy", "part.bin", SPEC, SPEC, files=files))
                        staging.publish(draft, final)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert codes == [0] * writers, codes
    manifest.read(final)
    assert [path.name for path in folder.iterdir()] == [final.name], list(folder.iterdir())


main()
