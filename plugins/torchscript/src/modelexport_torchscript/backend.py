"""PyTorch's TorchScript: kept off the terminal while it works, and its deprecation said once, in one wording."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager

from modelexport.toolkit import quiet

#: what every export says, and the manifest keeps
DEPRECATED = (
    "PyTorch has deprecated TorchScript: it gets fixes, no features. torch.export replaces it: target `captured` "
    "in Python, ExecuTorch on devices, AOTInductor in C++ servers"
)


def silenced() -> AbstractContextManager[list[warnings.WarningMessage]]:
    """Keep what torch.jit says off the terminal; the warnings that were caught can be read afterwards.

    The tracer's warnings name lines at which a trace is not enough. The rest is noise: every function of torch.jit
    warns that it is deprecated, the model's own warnings were shown when it ran as the reference, and
    torch.jit.script reads every property of a module, some of which log.
    """
    return quiet(all_loggers=True)
