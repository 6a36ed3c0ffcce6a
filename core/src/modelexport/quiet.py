"""Keep a library's warnings and prints off the user's terminal: what matters in them comes back as an error."""

from __future__ import annotations

import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress


@contextmanager
def quiet(
    *loggers: str,
    all_loggers: bool = False,
    stdout: bool = False,
    native: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator[list[warnings.WarningMessage]]:
    """Keep what a library says off stderr, and hand out the Python warnings, for who wants to read them.

    Named `loggers` are silenced; with `all_loggers` every one. `stdout` silences that too; `native` what C and C++
    write past Python to the same descriptors. `environment` holds variables while the block lasts: many libraries
    are told so to draw no progress bars. torch.export prints the graph so far to stderr when it fails.
    """
    with ExitStack() as stack:
        stack.enter_context(_environment(environment or {}))
        stack.enter_context(_silenced(loggers, all_loggers))
        if native:
            for descriptor in (2, 1) if stdout else (2,):
                stack.enter_context(_sunk(descriptor))
        caught = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        stack.enter_context(redirect_stderr(io.StringIO()))
        if stdout:
            stack.enter_context(redirect_stdout(io.StringIO()))
        yield caught


@contextmanager
def _silenced(names: tuple[str, ...], every: bool) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    levels, disabled = [logger.level for logger in loggers], logging.root.manager.disable
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    if every:
        logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _sunk(descriptor: int) -> Iterator[None]:
    """Send a file descriptor's output to nowhere; one that is closed stays so."""
    stream = {1: sys.stdout, 2: sys.stderr}[descriptor]
    try:
        own = os.dup(descriptor)
    except OSError:
        yield
        return
    _flush(stream)
    try:
        with tempfile.TemporaryFile() as sink:
            os.dup2(sink.fileno(), descriptor)
            yield
    finally:
        _flush(stream)
        os.dup2(own, descriptor)
        os.close(own)


def _flush(stream: object) -> None:
    with suppress(OSError, ValueError, AttributeError):
        stream.flush()  # type: ignore[attr-defined]
