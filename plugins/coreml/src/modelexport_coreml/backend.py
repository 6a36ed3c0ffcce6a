"""coremltools, imported without what it merely supports, and its noise kept off the terminal."""

from __future__ import annotations

import importlib
import sys
from contextlib import AbstractContextManager, suppress
from typing import Any

from modelexport.toolkit import quiet as quiet_libraries
from modelexport.toolkit import without

#: what coremltools imports where it finds it, for conversions and checks that nobody asks it for here; k-means
#: imports scikit-learn when it needs it, and torchao's operators are taken apart before the converter sees them
_SUPPORTED = (
    "tensorflow", "sklearn", "libsvm", "xgboost", "transformers", "torchvision", "torchaudio", "executorch",
    "torchao", "scipy",
)  # fmt: skip

#: an option's value → the name of coremltools' ComputeUnit
_UNITS = {"all": "ALL", "cpu-only": "CPU_ONLY", "cpu-and-gpu": "CPU_AND_GPU", "cpu-and-ne": "CPU_AND_NE"}


def quiet() -> AbstractContextManager[object]:
    """While the block lasts, no warning and no progress bar of coremltools reaches the terminal."""
    return quiet_libraries("coremltools")


def coremltools(module: str = "") -> Any:
    """The package, or a module of it by its path, as in `coremltools("optimize.coreml")`.

    Every part of this plugin gets it here, since the first import decides what else is imported with it.
    """
    if "coremltools" not in sys.modules:
        _import()
    return importlib.import_module(f"coremltools.{module}" if module else "coremltools")


def _import() -> None:
    # PyTorch goes first: what it looks for itself must not be hidden from it.
    with suppress(ImportError):
        importlib.import_module("torch")
    with quiet(), without(*_SUPPORTED):
        importlib.import_module("coremltools")


def compute_unit(name: str) -> Any:
    """coremltools' ComputeUnit for the value of the option `compute-units`."""
    return coremltools().ComputeUnit[_UNITS[name]]
