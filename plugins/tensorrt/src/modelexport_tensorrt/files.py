"""model.engine, and what can be told of such a file without a GPU: whether it begins as an engine does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.errors import ConversionError

from . import backend
from .flavours import Flavour

if TYPE_CHECKING:
    import tensorrt_rtx as rtx

#: the engine, in every artifact
FILE = "model.engine"

#: bytes of an engine that hold its header
HEADER = 64


def check_header(flavour: Flavour, path: Path) -> None:
    """Raise ConversionError for a file that doesn't begin as an engine does; only TensorRT-RTX can tell."""
    if flavour.ahead and malformed(flavour.load(), path):
        raise ConversionError("TensorRT wrote an engine that it does not know as one", "is the disk full?")


def malformed(trt: Any, path: Path) -> bool:
    """Whether the file has no valid engine header. Needs no GPU; TensorRT-RTX only."""
    runtime: rtx.Runtime = trt.Runtime(backend.logger(trt, backend.Log()))
    with path.open("rb") as file:
        header = file.read(HEADER)
    if len(header) < HEADER:
        return True
    _, diagnostics = runtime.get_engine_validity(header)
    return bool(int(diagnostics) & int(trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE))
