"""TensorRT's logger, which keeps what is said off the terminal, and its libraries of kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.errors import OptionError

if TYPE_CHECKING:
    import tensorrt_rtx as rtx


@dataclass
class Log:
    """What TensorRT said, by how bad it is."""

    lines: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def logger(trt: Any, log: Log) -> Any:
    """A logger that keeps what is said in `log`, away from the user's terminal."""
    bad = (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR)

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            (log.errors if severity in bad else log.lines).append(message)

    return Logger()


def load_plugins(owner: rtx.Builder | rtx.Runtime, libraries: Sequence[str]) -> None:
    """Make kernels of shared libraries known to a builder or runtime. Raises OptionError for one that has none."""
    for path in libraries:
        if owner.get_plugin_registry().load_library(str(Path(path).resolve())) is None:
            raise OptionError(
                f"plugins={path} can't be loaded", "is it a TensorRT plugin library for this machine?"
            )
