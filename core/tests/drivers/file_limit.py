"""`mx export` where no file may grow beyond a limit: `file_limit.py SOURCE FOLDER TARGET LIMIT…`.

The limit stands for a full disk: a write fails in the middle of a file. Prints, for each limit, the exit code
and what was said, as JSON. Python keeps half of what it compiled there, and fails on that from then on
(https://github.com/python/cpython/issues/126606), so nothing is compiled to a file.
"""

import contextlib
import io
import json
import os
import resource
import sys
from pathlib import Path

from modelexport import cli


def main():
    sys.dont_write_bytecode, os.environ["PYTHONDONTWRITEBYTECODE"] = True, "1"
    source, folder, target, limits = sys.argv[1], Path(sys.argv[2]), sys.argv[3], map(int, sys.argv[4:])
    assert cli._run(["export", source, "-t", target, "-o", str(folder / ".warm")]) == 0
    found = []
    for limit in limits:
        into, out_of = os.pipe()
        if os.fork() == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            said = io.StringIO()
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                code = cli._run(["export", source, "-t", target, "-o", str(folder), "--name", "net"])
            os.write(out_of, json.dumps([limit, code, said.getvalue()]).encode())
            os._exit(0)
        os.close(out_of)
        with os.fdopen(into) as stream:
            found.append(json.loads(stream.read()))
        os.wait()
        names = sorted(path.name for path in folder.iterdir() if path.name != ".warm")
        found[-1].append(names)
    sys.stderr.write(json.dumps(found))


main()
