"""ExecuTorch on this machine: its runtime, the kernels of it, and what both print, kept off the terminal.

`executorch.runtime` imports ExecuTorch's compiler, which takes ten seconds; the module that it wraps takes none.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stderr
from typing import Any

from modelexport.errors import RuntimeFailure, first_line
from modelexport.toolkit import quiet

#: kernels of quantized operators begin with this: they are in a library of their own
QUANTIZED = "quantized_decomposed::"

_LOGGERS = ("torch.fx", "torch._export", "torch._dynamo", "torch.utils._pytree", "torchao", "executorch", "root")


def hushed() -> AbstractContextManager[list[warnings.WarningMessage]]:
    """Keep the warnings of ExecuTorch's compiler and of torchao off the terminal."""
    return quiet(*_LOGGERS)


def runtime() -> Any:
    """ExecuTorch's runtime as a Python module. Raises RuntimeFailure where it can't be imported."""
    try:
        import torch  # noqa: F401  the runtime takes its libraries from here
        from executorch.extension.pybindings import _C
    except (ImportError, OSError) as error:
        raise RuntimeFailure(
            f"ExecuTorch's runtime can't be imported: {first_line(error)}",
            "it takes the PyTorch that it was built for: pip install -U executorch",
        ) from error
    return _C


def kernels(wanted: Iterable[str]) -> set[str]:
    """Names of the kernels that the runtime has; those of quantized operators are loaded if any is wanted."""
    native = runtime()
    if any(name.startswith(QUANTIZED) for name in wanted):
        import executorch.kernels.quantized  # noqa: F401
    return set(native._get_operator_names())


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Keep off the terminal what the runtime prints inside the block; the list has its lines afterwards."""
    lines: list[str] = []
    stream = io.StringIO()
    try:
        with redirect_stderr(stream):
            yield lines
    finally:
        lines += stream.getvalue().splitlines()


def complaint(lines: Sequence[str]) -> str:
    """What the runtime printed first of what went wrong: later lines say where that led."""
    messages = [line.partition("] ")[2] or line for line in lines if "cpuinfo" not in line]
    return messages[0] if messages else ""
