"""Keeping libraries off the user's terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what logs through Python, and from C++ to the file descriptor; errors are exceptions anyhow."""
    sys.stderr.flush()
    own, level = os.dup(2), logging.root.manager.disable
    progress = os.environ.get("LITERT_TORCH_SHOW_PROGRESS")
    logging.disable(logging.CRITICAL)
    os.environ["LITERT_TORCH_SHOW_PROGRESS"] = "n"
    try:
        with tempfile.TemporaryFile() as sink, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            os.dup2(sink.fileno(), 2)
            yield
    finally:
        sys.stderr.flush()
        os.dup2(own, 2)
        os.close(own)
        logging.disable(level)
        if progress is None:
            del os.environ["LITERT_TORCH_SHOW_PROGRESS"]
        else:
            os.environ["LITERT_TORCH_SHOW_PROGRESS"] = progress
