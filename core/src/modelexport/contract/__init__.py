"""What plugins are written against: the hooks, and the values that flow through them.

Importing this package is cheap: names are resolved on first use, so describing a target costs no more than the
modules that it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import face

__all__ = [
    "CAPTURED",
    "DTYPES",
    "MODULE",
    "Array",
    "Arrays",
    "Artifact",
    "Budget",
    "Build",
    "Calibration",
    "Captured",
    "Check",
    "Comparison",
    "CompiledLayer",
    "Count",
    "Dim",
    "Event",
    "FileEntry",
    "Goal",
    "LoadOptions",
    "Name",
    "NoDetails",
    "NoOptions",
    "NoState",
    "Parity",
    "Positive",
    "Processing",
    "Progress",
    "QuantizationReport",
    "QuantizedLayer",
    "Score",
    "Session",
    "Source",
    "StandIn",
    "State",
    "Step",
    "Target",
    "TensorSpec",
    "Trial",
    "Verb",
    "Verified",
    "build_options",
    "by_kind",
    "cast",
    "check_file",
    "check_inputs",
    "check_least",
    "check_writable",
    "describe_options",
    "dims_of",
    "fits",
    "hookimpl",
    "key_of",
    "option",
    "option_keys",
    "stage",
    "steps",
    "suggest",
    "unify_dims",
]

if TYPE_CHECKING:
    from ..typed import Check, Count, Name, Positive
    from .artifacts import Artifact, Build, FileEntry, StandIn, Step
    from .compiled import CompiledLayer, by_kind
    from .goal import Goal
    from .hooks import hookimpl
    from .options import (
        NoOptions,
        build_options,
        check_file,
        check_least,
        check_writable,
        describe_options,
        key_of,
        option,
        option_keys,
        suggest,
    )
    from .parity import Budget, Comparison, Parity, Verified
    from .processing import Processing
    from .progress import Event, Progress, stage, steps
    from .quantization import QuantizationReport, QuantizedLayer, Score, Trial
    from .samples import Calibration
    from .sessions import Session
    from .sources import Captured, LoadOptions, NoState, Source, State
    from .target import CAPTURED, MODULE, NoDetails, Target, Verb
    from .tensors import DTYPES, Array, Arrays, Dim, TensorSpec, cast, check_inputs, dims_of, fits, unify_dims

_HOMES = {
    "..typed": "Check Count Name Positive",
    ".artifacts": "Artifact Build FileEntry StandIn Step",
    ".compiled": "CompiledLayer by_kind",
    ".goal": "Goal",
    ".hooks": "hookimpl",
    ".options": "NoOptions build_options check_file check_least check_writable describe_options key_of option "
    "option_keys suggest",
    ".parity": "Budget Comparison Parity Verified",
    ".processing": "Processing",
    ".progress": "Event Progress stage steps",
    ".quantization": "QuantizationReport QuantizedLayer Score Trial",
    ".samples": "Calibration",
    ".sessions": "Session",
    ".sources": "Captured LoadOptions NoState Source State",
    ".target": "CAPTURED MODULE NoDetails Target Verb",
    ".tensors": "DTYPES Array Arrays Dim TensorSpec cast check_inputs dims_of fits unify_dims",
}

__getattr__, __dir__ = face(__name__, {name: home for home, names in _HOMES.items() for name in names.split()})
