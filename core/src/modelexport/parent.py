"""A process that ends with the one that started it: nobody would wait for it any more."""

from __future__ import annotations

import os
import signal
import sys

#: the environment variable that tells a child the number of its parent
PARENT = "MX_PARENT"

#: prctl(2): the signal that a process gets when its parent ends
_SET_PARENT_DEATH_SIGNAL = 1


def end_with(parent: int) -> None:
    """Have Linux kill this process when its `parent`, the process of that number, ends. Nothing elsewhere."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)
