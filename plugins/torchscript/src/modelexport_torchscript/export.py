"""Live module → model.pt: traced or scripted, and why.

What was saved is loaded again and compared with the module on inputs it was not traced with. In `auto`, a trace
that differs is replaced by a script; so is one that met a decision on data, where the script computes the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelexport.contract import Build, Source
from modelexport.errors import ConversionError, ReferenceError
from modelexport.toolkit import DescribedSource, Golden, copy_as, describe_source, eval_mode, listed

from . import compiling, files, probe, schema, trust
from .backend import DEPRECATED
from .files import FILE

if TYPE_CHECKING:
    from . import ExportOptions

#: lines that the note on a doubtful trace names, at most
LINES = 5

_LOST = "the artifact has no {}: TorchScript has no type for the model's outputs, so a module around it was traced"
_FREEZES = "a trace freezes what it saw once"


@dataclass(frozen=True)
class _Choice:
    """The way taken, why not the other one, and what the user should know."""

    mode: str
    why: str
    notes: tuple[str, ...] = ()


def export(source: Source, out: Path, options: ExportOptions) -> Build:
    """Write `model.pt` into `out`: compiled from a live module, or an existing archive as it is.

    Raises ConversionError where neither way leads there: with the user's line that can't be compiled, and the
    output and inputs for which a trace is wrong. Raises UnsafeFileError where the archive could touch files or
    processes, unless `options` allow it.
    """
    if source.format == "torchscript":
        return _carried(source, out, options.allow_file_access)
    described, place = describe_source(source), out / FILE
    with eval_mode(source):
        choice = _WAYS[options.mode](described, place)
    if not options.allow_file_access:
        trust.check(place, "the model as TorchScript")
    program = files.load(place, trusted=True)
    exported, callable_ = compiling.exported_methods(source.module), schema.methods(program)
    lost = [name for name in exported if name not in callable_]
    details = {
        "mode": choice.mode,
        "why": choice.why,
        "signature": schema.signature(program),
        "methods": [name for name in exported if name in callable_],
    }
    notes = (*choice.notes, *([_LOST.format(", ".join(lost))] if lost else []), DEPRECATED)
    return Build(FILE, tools=("torch",), details=details, notes=notes)


def _carried(source: Source, out: Path, trusted: bool) -> Build:
    """An existing archive in `out`: byte by byte, unless it was saved in training mode."""
    assert source.path is not None
    program = files.load(source.path, trusted=trusted)
    notes = [DEPRECATED]
    if schema.in_training(program):
        notes.insert(0, "the file was saved in training mode; the artifact is in eval mode")
        files.save(program.eval(), out / FILE)
    else:
        copy_as(source, out / FILE)
    details = {"signature": schema.signature(program), "methods": schema.methods(program)}
    return Build(FILE, tools=("torch",), details=details, notes=tuple(notes))


# --------------------------------------------------------------------------------------- the ways


def _trace(described: DescribedSource, place: Path) -> _Choice:
    traced = compiling.trace(described)
    files.save(traced.module, place)
    return _Choice("trace", "asked for", _constants(traced.doubts))


def _script(described: DescribedSource, place: Path) -> _Choice:
    files.save(compiling.script(described.source.module), place)
    return _Choice("script", "asked for")


def _auto(described: DescribedSource, place: Path) -> _Choice:
    """Trace; script instead where the trace fails, differs from the module, or met a decision on data."""
    try:
        answers = probe.reference(described)
    except ReferenceError as error:  # the user has turned the gate off, which would have said the same
        choice = _trace(described, place)
        return _Choice("trace", f"other inputs could not be tried: {error.message}", choice.notes)
    try:
        traced = compiling.trace(described)
    except ConversionError as error:
        return _script_instead(described, place, answers, error.message, error)
    files.save(traced.module, place)
    verdict = probe.judge(place, described, answers)
    at = f" ({'; '.join(traced.doubts)})" if traced.doubts else ""
    if not verdict.ok:
        return _script_instead(described, place, answers, f"{_FREEZES}{at}: {verdict}")
    same = f"it computes the same on {len(answers.cases)} other inputs"
    if not traced.doubts:
        return _Choice("trace", same)
    try:
        _script_checked(described, place, answers)
    except ConversionError as error:
        files.save(traced.module, place)
        return _Choice("trace", f"{same}, and {error.message}", _constants(traced.doubts))
    return _scripted(f"a trace would freeze what it saw once{at}")


_WAYS: dict[str, Callable[[DescribedSource, Path], _Choice]] = {"trace": _trace, "script": _script, "auto": _auto}


def _script_instead(
    described: DescribedSource, place: Path, answers: Golden, why: str, cause: Exception | None = None
) -> _Choice:
    """Script the module, since a trace will not do. Raises ConversionError that says why neither does."""
    try:
        _script_checked(described, place, answers)
    except ConversionError as error:
        hint = "change the line named, or export to another target; `mx targets` lists them"
        raise ConversionError(f"{error.message}; and {why}", hint) from cause or error
    return _scripted(why)


def _script_checked(described: DescribedSource, place: Path, answers: Golden) -> None:
    """Script the module and save it. Raises ConversionError where it can't be, or computes something else."""
    files.save(compiling.script(described.source.module), place)
    verdict = probe.judge(place, described, answers)
    if not verdict.ok:
        raise ConversionError(f"torch.jit.script makes something else of the model: {verdict}")


def _scripted(why: str) -> _Choice:
    return _Choice("script", why, (f"scripted rather than traced: {why}",))


def _constants(places: Sequence[str]) -> tuple[str, ...]:
    """A note on the lines at which a trace took values for constants; none where there are no such lines."""
    return (f"the trace keeps, as constants, what it saw at {listed(places, LINES)}",) if places else ()
