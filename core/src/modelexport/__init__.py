"""Put one trained model on every runtime, with proof that each copy computes the same thing.

Importing this package is cheap: names are resolved on first use, and neither torch nor any runtime is
imported before a verb needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "benchmark": "api",
    "export": "api",
    "load": "api",
    "optimize": "api",
    "quantize": "api",
    "run": "api",
    "verify": "api",
    "MxError": "errors",
    "hookimpl": "hookspecs",
    "Artifact": "types",
    "Build": "types",
    "Dim": "types",
    "Session": "types",
    "Source": "types",
    "Target": "target",
    "TensorSpec": "types",
}

__all__ = [
    "Artifact",
    "Build",
    "Dim",
    "MxError",
    "Session",
    "Source",
    "Target",
    "TensorSpec",
    "__version__",
    "benchmark",
    "export",
    "hookimpl",
    "load",
    "optimize",
    "quantize",
    "run",
    "verify",
]

if TYPE_CHECKING:
    from .api import benchmark, export, load, optimize, quantize, run, verify
    from .errors import MxError
    from .hookspecs import hookimpl
    from .types import Artifact, Build, Dim, Session, Source, Target, TensorSpec


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
