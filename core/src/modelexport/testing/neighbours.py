"""Models and data beside a plugin's tests, in files of their own."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def beside(test: str, name: str) -> ModuleType:
    """The module `NAME.py` beside the file `test`, as in `nets = beside(__file__, "nets")`; it is imported once.

    `name` may lead into a folder ("nets/zoo"). The module's own name is one that no other folder's has, so that
    tests of several plugins run in one process.
    """
    path = Path(test).resolve().parent / f"{name}.py"
    own = f"beside_{hashlib.sha256(str(path.parent).encode()).hexdigest()[:8]}_{path.stem}"
    if own not in sys.modules:
        spec = importlib.util.spec_from_file_location(own, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[own] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[own])
        except BaseException:
            del sys.modules[own]
            raise
    return sys.modules[own]
