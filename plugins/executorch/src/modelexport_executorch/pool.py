"""The runtime's pool of threads, which a process has one of.

XNNPACK keeps a pointer to the pool from the moment that a program is loaded, and another size makes another pool
(`XNNCompiler.cpp` and `threadpool.cpp` of ExecuTorch): a program that was loaded before would read freed memory.
So the size is set before a program is loaded, and stays while one is open.
"""

from __future__ import annotations

import gc
from typing import Any
from weakref import WeakSet

from modelexport.errors import OptionError

from . import backend

_methods: WeakSet[Any] = WeakSet()


def size() -> int:
    """The pool's threads."""
    return int(backend.runtime()._threadpool_get_thread_count())


def used_by(method: Any) -> Any:
    """The loaded method, which the pool stays as it is for until the method is freed."""
    _methods.add(method)
    return method


def resize(threads: int) -> None:
    """Give the pool so many threads; 0 leaves it. Raises OptionError where an open program uses it as it is."""
    if threads in (0, size()):
        return
    if _methods:
        gc.collect()  # a session that nobody holds any more may be part of a cycle
    if _methods:
        raise OptionError(
            f"threads={threads}: programs that use the runtime's {size()} threads are open in this process, "
            "which has one pool for all",
            "close their sessions first, give this one the same number, or run it in another process",
        )
    with backend.overheard():
        backend.runtime()._unsafe_reset_threadpool(threads)
