"""Python programs in processes that have PyTorch imported already, for the pages' many commands.

A hundred commands of the pages import PyTorch, for three seconds each. So one process imports it, and forks off
another for each command. What stands in the place of a console script is CLIENT: it hands over its arguments,
variables, folder and files, and ends as the program did. The program finds what is installed in its own virtual
environment, and nothing imported but PyTorch.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import sysconfig
import types
from pathlib import Path

#: PyTorch, and what torch.export imports when it is called first
IMPORTED = ("torch", "torch._dynamo", "torch.export._trace", "torch._inductor.ir")

CLIENT = """\
#!{python} -IS
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({place!r})
    asked = [[{script!r}, *sys.argv[1:]], dict(os.environ), os.getcwd()]
    socket.send_fds(server, [b"-"], [0, 1, 2])
    server.sendall(json.dumps(asked).encode() + b"\\n")
    status = int(server.makefile().readline())
if status < 0:
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


class Warm:
    """The process that forks: it ends with the one that made it."""

    def __init__(self, place: Path, variables: dict[str, str]) -> None:
        self._place = place
        command = [sys.executable, __file__, str(place)]
        self._process = subprocess.Popen(
            command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            raise RuntimeError("the process that imports PyTorch for the pages did not start")

    def client(self, script: str) -> str:
        """The text of a script that runs another, or, for `-`, the program on its stdin."""
        return CLIENT.format(python=sys.executable, place=str(self._place), script=script)


def _serve(place: str) -> None:
    """Fork for each client, until stdin ends; returns in the fork, with everything as the client has it."""
    import gc
    import importlib
    import select

    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(place)
        server.listen()
        os.write(1, b"ready\n")
        while True:
            ready, _, _ = select.select([server, sys.stdin], [], [])
            if sys.stdin in ready:
                os._exit(0)
            client, _ = server.accept()
            if os.fork() == 0:
                break
            client.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _take(client)


def _take(client: socket.socket) -> None:
    """Become what the client asks for, in one more process; this one waits for it, and answers with its status."""
    _, files, _, _ = socket.recv_fds(client, 1, 3)
    arguments, variables, folder = json.loads(client.makefile().readline())
    if program := os.fork():
        client.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(program, 0)[1]))
        os._exit(0)
    client.close()
    for ours, theirs in enumerate(files):
        os.dup2(theirs, ours)
        os.close(theirs)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.argv = arguments


def _enter(environment: Path) -> None:
    """Find packages as the environment's own interpreter does: its own before those that it sees."""
    import site

    sys.executable, sys.prefix, sys.exec_prefix = str(environment / "bin" / "python"), *[str(environment)] * 2
    before = sys.path[1:]
    own = sysconfig.get_path("purelib", "venv", {"base": str(environment)})
    site.addsitedir(own)
    after = [path for path in sys.path[1:] if path not in before]
    first = "" if sys.argv[0] == "-" else str(Path(sys.argv[0]).parent)
    sys.path[:] = [first, *after, *before]


def _run() -> None:
    if sys.argv[0] != "-":
        runpy.run_path(sys.argv[0], run_name="__main__")
        return
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(sys.stdin.read(), "<stdin>", "exec"), module.__dict__)


if __name__ == "__main__":
    _serve(sys.argv[1])
    _enter(Path(os.environ["VIRTUAL_ENV"]))
    _run()
