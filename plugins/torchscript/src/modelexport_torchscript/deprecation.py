"""PyTorch has deprecated TorchScript: its warnings are handled here, once, and what it recommends is said once."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

#: what every export says, and the manifest keeps
NOTE = (
    "PyTorch has deprecated TorchScript: it gets fixes, no features. torch.export replaces it: target `captured` "
    "in Python, ExecuTorch on devices, AOTInductor in C++ servers"
)


@contextmanager
def quiet() -> Iterator[list[warnings.WarningMessage]]:
    """Keep warnings off the terminal while torch.jit works, and hand them to whoever wants the tracer's.

    Every torch.jit function warns that it is deprecated; `NOTE` says so where a user reads it. What the model's
    own code warns about, its run as the reference has shown already; and torch.jit.script reads every property
    of a module, some of which log.
    """
    disabled = logging.root.manager.disable
    logging.disable(max(disabled, logging.WARNING))
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield caught
    finally:
        logging.disable(disabled)
