"""Live module → model.pt: traced or scripted, and why.

What was saved is loaded again and compared with the module on inputs it was not traced with. In `auto`, a trace
that differs is replaced by a script; so is one that met a decision on data, where the script computes the same.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Build, Source
from modelexport.errors import ConversionError, ReferenceError, first_line, is_disk_error
from modelexport.toolkit import DescribedSource, Golden, describe_source, eval_mode

from . import compiling, probe, session
from .deprecation import NOTE, quiet

if TYPE_CHECKING:
    from . import ExportOptions

FILE = "model.pt"

_LOST = "the artifact has no {}: TorchScript has no type for the model's outputs, so a module around it was traced"


@dataclass(frozen=True)
class _Choice:
    """The way taken, why not the other one, and what the user should know."""

    mode: str
    why: str
    notes: tuple[str, ...] = ()


def export(source: Source, out: Path, options: ExportOptions) -> Build:
    """Write `model.pt` into `out`.

    Raises ConversionError where neither way leads there: with the user's line that can't be compiled, and the
    output and inputs for which a trace is wrong.
    """
    described, place = describe_source(source), out / FILE
    with eval_mode(source):
        if options.mode == "trace":
            choice = _trace(described, place)
        elif options.mode == "script":
            _save(compiling.script(source.module), place)
            choice = _Choice("script", "asked for")
        else:
            choice = _auto(described, place)
    loaded = session.load_file(place)
    exported, callable_ = compiling.exported_methods(source.module), session.methods(loaded)
    lost = [name for name in exported if name not in callable_]
    details = {
        "mode": choice.mode,
        "why": choice.why,
        "signature": session.signature(loaded),
        "methods": [name for name in exported if name in callable_],
    }
    notes = (*choice.notes, *([_LOST.format(", ".join(lost))] if lost else []), NOTE)
    return Build(FILE, tools=("torch",), details=details, notes=notes)


def copy_file(source: Source, out: Path) -> Build:
    """Carry an existing archive into `out`: byte by byte, unless it was saved in training mode."""
    assert source.path is not None
    loaded = session.load_file(source.path)
    notes = [NOTE]
    if session.in_training(loaded):
        notes.insert(0, "the file was saved in training mode; the artifact is in eval mode")
        _save(loaded.eval(), out / FILE)
    else:
        shutil.copyfile(source.path, out / FILE)
    details = {"signature": session.signature(loaded), "methods": session.methods(loaded)}
    return Build(FILE, tools=("torch",), details=details, notes=tuple(notes))


def _trace(described: DescribedSource, place: Path) -> _Choice:
    traced = compiling.trace(described)
    _save(traced.module, place)
    return _Choice("trace", "asked for", _doubts(traced.doubts))


def _auto(described: DescribedSource, place: Path) -> _Choice:
    try:
        wanted = probe.reference(described)
    except ReferenceError as error:  # the user has turned the gate off, which would have said the same
        choice = _trace(described, place)
        return _Choice("trace", f"other inputs could not be tried: {error.message}", choice.notes)
    try:
        traced = compiling.trace(described)
    except ConversionError as error:
        return _script_instead(described, place, wanted, error.message, error)
    _save(traced.module, place)
    found = probe.difference(place, described, wanted)
    if found is None and not traced.doubts:
        return _Choice("trace", f"it computes the same on {len(wanted.cases)} other inputs")
    at = f" ({'; '.join(traced.doubts)})" if traced.doubts else ""
    if found is not None:
        return _script_instead(described, place, wanted, f"a trace freezes what it saw once{at}: {found}")
    try:
        _script(described, place, wanted)
    except ConversionError as error:
        _save(traced.module, place)
        why = f"it computes the same on {len(wanted.cases)} other inputs, and {error.message}"
        return _Choice("trace", why, _doubts(traced.doubts))
    return _scripted(f"a trace would freeze what it saw once{at}")


def _script_instead(
    described: DescribedSource, place: Path, wanted: Golden, why: str, cause: Exception | None = None
) -> _Choice:
    """Script the module, since a trace will not do. Raises ConversionError that says why neither does."""
    try:
        _script(described, place, wanted)
    except ConversionError as error:
        hint = "change the line named, or export to another target; `mx targets` lists them"
        raise ConversionError(f"{error.message}; and {why}", hint) from cause or error
    return _scripted(why)


def _script(described: DescribedSource, place: Path, wanted: Golden) -> None:
    """Script the module and save it. Raises ConversionError where it can't be, or computes something else."""
    _save(compiling.script(described.source.module), place)
    if (found := probe.difference(place, described, wanted)) is not None:
        raise ConversionError(f"torch.jit.script makes something else of the model: {found}")


def _scripted(why: str) -> _Choice:
    return _Choice("script", why, (f"scripted rather than traced: {why}",))


def _doubts(places: tuple[str, ...]) -> tuple[str, ...]:
    """What to say about the lines where a trace took values for constants."""
    shown = "; ".join(places[:5]) + (f"; and {len(places) - 5} more" if len(places) > 5 else "")
    return (f"the trace keeps, as constants, what it saw at {shown}",) if places else ()


def _save(module: Any, place: Path) -> None:
    with quiet():
        try:
            module.save(str(place))
        except RuntimeError as error:
            if is_disk_error(error):
                raise
            raise ConversionError(
                f"PyTorch compiled the model and can't save it: {first_line(error)}",
                "does a parameter of type Tensor have the default None? Annotate it as Optional[Tensor]",
            ) from error
