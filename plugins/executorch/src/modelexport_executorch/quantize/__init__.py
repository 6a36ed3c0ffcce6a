"""Quantizing an ExecuTorch artifact: from the captured program that it keeps, through torchao, lowered anew.

work.py    what is asked, and what can't be
layers.py  the layers of a captured program, by the names of their weights
apply.py   a program with integers in it, in 8 bits (pt2e.py) or 4 (groups.py)
rank.py    which layers suffer most, each quantized alone
search.py  which layers stay in float32
report.py  what became of each layer
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modelexport.contract import Artifact, Build
from modelexport.errors import ConversionError
from modelexport.toolkit import left_as_they_are, stage

from .. import account, backend, files, lowering
from . import apply, report, search, work

if TYPE_CHECKING:
    from modelexport.contract import Calibration, Goal

    from .. import QuantizeOptions


def quantize(
    artifact: Artifact, out: Path, options: QuantizeOptions, calibration: Calibration | None, goal: Goal | None
) -> Build:
    """Write a quantized copy of the artifact into `out`.

    With a goal that allows a drop only so large, the layers that suffer most stay in float32 until it holds.
    Raises OptionError for what can't be asked, ConversionError where nothing can be quantized.
    """
    with backend.hushed():
        asked = work.prepared(artifact, options, calibration)
        choice = search.choose(asked, goal)
        summary = report.report(asked, choice, calibration)
        if not any(layer.precision.startswith("int") for layer in summary.layers):
            raise ConversionError(
                f"nothing of the model can be quantized in mode {asked.mode}",
                "try another -k mode=, or exclude less",
            )
        stage("capture the quantized program")
        program = apply.program(asked, choice.module)
    names = work.backends(artifact)
    finished, details = lowering.lowered(program, names, fuse=asked.bits == 4)
    (out / files.FILE).write_bytes(finished.buffer)
    details |= {"backend": list(names), "bounds": artifact.details.get("bounds", {})}
    notes = (*left_as_they_are(summary.layers), *account.notes(details))
    tools = ("torch", "torchao", "executorch")
    return Build(files.FILE, tools, f"int{asked.bits}", details, notes, summary)
