"""The child process: `python -m modelexport.child` answers questions in lines of JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from . import errors
from .errors import MxError
from .parent import PARENT, end_with


def main() -> None:
    end_with(int(os.environ.get(PARENT, os.getppid())))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # runtimes print to stdout as they please
    sys.stdout = sys.stderr
    from .bench.runner import Runner
    from .gate import verify

    runner = Runner()
    jobs: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
        "verify": verify.verify_job,
        "bench-load": runner.load,
        "bench-run": runner.run,
        "bench-stop": runner.stop,
    }
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = jobs[question["job"]](question)
        except Exception as error:  # noqa: BLE001  it is raised again in the parent
            answer = {"error": _describe(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _describe(error: Exception) -> dict[str, str]:
    import traceback

    trace = "".join(traceback.format_exception(error))
    if isinstance(error, MemoryError):
        error = errors.out_of_memory(error)
    if isinstance(error, MxError):
        kind = type(error).__name__ if hasattr(errors, type(error).__name__) else "MxError"
        return {"kind": kind, "message": error.message, "hint": error.hint, "trace": trace}
    message = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return {
        "kind": "RuntimeFailure",
        "message": message,
        "hint": "add --debug for the whole trace",
        "trace": trace,
    }


if __name__ == "__main__":
    main()
