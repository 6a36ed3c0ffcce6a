"""A fresh child process for work that must not share ours: verification, and each contestant of a benchmark.

The child is `python -m modelexport.child`; questions and answers are lines of JSON on its stdin and
stdout. A converter's or runtime's crash ends the child, and becomes a RuntimeFailure here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from .. import errors
from ..errors import MxError, RuntimeFailure
from ..parent import PARENT
from ..store.scratch import scratch


class Child:
    """The parent's end: `ask` sends a question and returns the answer, or raises what the child raised."""

    def __init__(self, process: subprocess.Popen[str], doing: str, log: IO[str]) -> None:
        self._process = process
        self._doing = doing
        self._log = log

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the child is gone; reading its end says so, and why
        line = self._process.stdout.readline()
        if not line:
            raise self._crash()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise _revive(answer["error"])
        return answer

    def _crash(self) -> RuntimeFailure:
        code = self._process.wait()
        how = f"exit code {code}"
        if code < 0:
            how = signal.Signals(-code).name
        self._log.seek(0)
        tail = [line.strip() for line in self._log.read().splitlines() if line.strip()][-1:]
        said = f"; it said: {tail[0]}" if tail else ""
        return RuntimeFailure(
            f"the process {self._doing} died ({how}){said}",
            "out of memory, or a crash of the runtime: try smaller dims, or another version of the runtime",
        )


@contextmanager
def start(doing: str, environment: Mapping[str, str] | None = None) -> Iterator[Child]:
    """A fresh child; `doing` is for messages ("verifying build/x"). It ends with the block."""
    command = [sys.executable, "-m", "modelexport.child"]
    with scratch("child") as folder, tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        # PYTHONSAFEPATH: a file of the user's folder must not stand in for a module of ours.
        # TMPDIR: the child is killed in the end, and can't remove what it or a runtime in it left.
        own = {"PYTHONSAFEPATH": "1", "TMPDIR": str(folder), PARENT: str(os.getpid())}
        variables = {**os.environ, **own, **(environment or {})}
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("MX_TRACE") else log,
            text=True,
            env=variables,
        )
        with process:
            try:
                yield Child(process, doing, log)
            finally:
                process.kill()  # nothing of it is needed any more, and a hung runtime must not hang us


def _revive(error: Mapping[str, str]) -> MxError:
    kind = getattr(errors, error["kind"], MxError)
    revived: MxError = kind(error["message"], error["hint"])
    revived.__cause__ = RemoteTraceback(error["trace"])
    return revived


class RemoteTraceback(Exception):
    """The child's traceback, as the cause of the error it became here."""
