"""A command's work in a process forked off for it: a runtime that takes its process down takes no more than that.

A damaged model file can end a process in ways that no exception handler sees: a failed check in C++, an access
beyond memory, the kernel's own answer to a lack of it. The process that the user started waits, hands signals on,
and says what happened. Forking before anything heavy is imported costs a millisecond.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from ..parent import end_with

#: signals that a process ends itself with, or is ended with by the kernel
_CRASHES = ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGKILL", "SIGSEGV", "SIGSYS", "SIGTRAP", "SIGXCPU")

#: signals that are handed on
_STOPS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")

#: what the kernel says of a signal that was sent to the whole process group, by the terminal
_FROM_KERNEL = 0x80


def guarded(work: Callable[[], int], crashed: Callable[[str], int]) -> int:
    """The exit status of `work`, done in a child process; that of `crashed` where the child died, told how.

    It died where a signal ended it, or where native code ended it by itself with a status, as some do that can't
    write a file. Where the system can't fork or wait for signals, `work` is done here.
    """
    if not (hasattr(os, "fork") and hasattr(signal, "sigwaitinfo")):
        return work()
    waited = {getattr(signal, name) for name in (*_STOPS, "SIGCHLD")}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    reader, writer = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        os.close(reader)
        end_with(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            return work()
        finally:
            os.write(writer, b".")  # Python came to its end
    os.close(writer)
    status = _wait(child, waited)
    with os.fdopen(reader, "rb", buffering=0) as stream:
        os.set_blocking(reader, False)  # a process that the child left behind may hold the other end
        at_its_end = bool(stream.read(1))
    if status >= 0:
        return status if at_its_end else crashed(f"exit status {status}")
    name = signal.Signals(-status).name
    if name in _CRASHES:
        return crashed(name)
    signal.signal(-status, signal.SIG_DFL)  # as if it had been ours
    os.kill(parent, -status)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return 128 - status


def _wait(child: int, waited: set[signal.Signals]) -> int:
    """The exit status of a child, negative for a signal; meanwhile it gets the signals that its parent is sent."""
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        received = signal.sigwaitinfo(waited)
        if received.si_signo != signal.SIGCHLD and received.si_code != _FROM_KERNEL:
            os.kill(child, received.si_signo)
