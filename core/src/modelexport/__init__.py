"""Put one trained model on every runtime, with proof that each copy computes the same thing.

Importing this package is cheap: names are resolved on first use, and neither torch nor any runtime is
imported before a verb needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import __version__
from .lazy import face

__all__ = [
    "Artifact",
    "Build",
    "Dim",
    "MxError",
    "Session",
    "Source",
    "Target",
    "TensorSpec",
    "Verb",
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
    from .contract import Artifact, Build, Dim, Session, Source, Target, TensorSpec, Verb, hookimpl
    from .errors import MxError

__getattr__, __dir__ = face(
    __name__,
    {
        "benchmark": ".api",
        "export": ".api",
        "load": ".api",
        "optimize": ".api",
        "quantize": ".api",
        "run": ".api",
        "verify": ".api",
        "MxError": ".errors",
        "Artifact": ".contract",
        "Build": ".contract",
        "Dim": ".contract",
        "Session": ".contract",
        "Source": ".contract",
        "Target": ".contract",
        "TensorSpec": ".contract",
        "Verb": ".contract",
        "hookimpl": ".contract",
    },
)
