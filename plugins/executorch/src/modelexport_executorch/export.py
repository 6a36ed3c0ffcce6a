"""Captured program → the files of an artifact: model.pte, and what the options ask for beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Build, Captured, Dim
from modelexport.errors import ConversionError
from modelexport.toolkit import bound_notes, bounds, stage

from . import account, bundle, files, lowering, operators

if TYPE_CHECKING:
    from . import ExportOptions


def export(captured: Captured, out: Path, options: ExportOptions) -> Build:
    """Write `model.pte` into `out`, and beside it what the options ask for.

    Raises OptionError for a bound below a dim's least size, ConversionError for everything else; operators
    without a kernel are listed all at once.
    """
    operators.check_interface(captured)
    largest = bounds(captured.inputs, options.bound)
    limited = lowering.with_bounds(captured, largest)
    program, details = lowering.lowered(limited.program, options.backend, options.custom_kernels, options.etrecord)
    _check_sizes(program, limited)
    (out / files.FILE).write_bytes(program.buffer)
    if options.keep_program:
        stage("keep the captured program")
        files.keep(captured.program, out)
    if options.etrecord:
        (out / files.RECORD).parent.mkdir(exist_ok=True)
        program.get_etrecord().save(str(out / files.RECORD))
    if options.bundle:
        details["bundle"] = bundle.write(program, limited, out)
    details |= {"backend": list(options.backend), "bounds": largest}
    notes = (*bound_notes(largest, "memory is planned for one"), *account.notes(details))
    return Build(files.FILE, ("torch", "executorch"), details=details, notes=notes)


def _check_sizes(program: Any, captured: Captured) -> None:
    """Raise ConversionError where memory is planned for less than the largest size of a dim."""
    (plan,) = program.executorch_program.execution_plan
    for spec, index in zip(captured.inputs, plan.inputs, strict=True):
        for size, planned in zip(spec.shape, plan.values[index].val.sizes, strict=True):
            largest = size.max if isinstance(size, Dim) else size
            if planned < largest:
                name = size.name if isinstance(size, Dim) else str(size)
                raise ConversionError(
                    f"ExecuTorch took {name} of input {spec.name!r} for {planned} at most, it goes to {largest}",
                    f"fix it: --dim executorch.{name}=SIZE",
                )
