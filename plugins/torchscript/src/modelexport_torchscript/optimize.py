"""Freeze, and optimize_for_inference: each kept only where it is measured to be no slower.

Freezing makes weights constants and folds what depends on them alone; optimize_for_inference does that and
rewrites the graph for this machine's CPU, into weights that PyTorch can't save. So the artifact holds the frozen
model, and a session rewrites it as it loads. Both have been seen to make a model 40 times slower. So everything
is timed as a session will run it, loaded from its file, in turns with the model as it was; and only after calls
of the same shapes, since TorchScript compiles in its first ones.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Build, Session
from modelexport.errors import MxError, first_line, is_disk_error
from modelexport.toolkit import (
    Golden,
    GoldenCase,
    cases_to_time,
    compare_all,
    latency_ratios,
    load_golden,
    to_torch,
)

from . import session
from .deprecation import quiet
from .export import FILE

if TYPE_CHECKING:
    from . import OptimizeOptions

METHODS = ("freeze", "optimize_for_inference")


@dataclass
class _Trial:
    """A rewritten model: what to call, the file to keep, its latencies, and why it is not kept, if it isn't."""

    run: Any = None
    file: Path | None = None
    ratios: dict[str, float] = field(default_factory=dict)
    refused: str = ""

    @property
    def worst(self) -> float:
        return max(self.ratios.values(), default=float("inf"))


def optimize(artifact: Artifact, out: Path, options: OptimizeOptions) -> Build:
    """Write the fastest equivalent of the artifact into `out`: the model unchanged where nothing helps.

    The details tell each method's latency relative to the model as it was, at each size measured.
    """
    asked = {"auto": METHODS, "none": ()}.get(options.method, (options.method,))
    reference = load_golden(artifact.golden)
    trials = {method: _rewrite(method, artifact, out / f"{method}.pt") for method in asked}
    runnable = [trial for trial in trials.values() if not trial.refused]
    _measure(artifact, runnable, cases_to_time(reference.cases))
    kept = _choose(trials, artifact, reference)
    chosen = trials[kept].file if kept is not None else None
    shutil.copyfile(chosen or artifact.entry_path, out / FILE)
    for trial in trials.values():
        if trial.file is not None:
            trial.file.unlink(missing_ok=True)
    notes = [_said(method, trial, kept) for method, trial in trials.items()]
    details = {
        "kept": kept or "nothing: the model is unchanged",
        "ratios": {method: trial.ratios for method, trial in trials.items()},
        "at_load": [kept] if kept == session.AT_LOAD else [] if kept else artifact.details.get("at_load", []),
    }
    if not kept:
        notes.append("the model is written unchanged")
    return Build(FILE, ("torch",), artifact.precision, details, tuple(notes))


def _rewrite(method: str, artifact: Artifact, place: Path) -> _Trial:
    """The model rewritten, and loaded again from its file."""
    import torch

    given = session.load_file(artifact.entry_path)
    try:
        with quiet():
            kept = session.methods(given)
            frozen = torch.jit.freeze(given.eval(), preserved_attrs=kept) if session.thawed(given) else given
            frozen.save(str(place))
            loaded = session.load_file(place)
            return _Trial(session.for_inference(loaded) if method == session.AT_LOAD else loaded, place)
    except (MxError, RuntimeError) as error:
        if is_disk_error(error):
            raise
        return _Trial(file=place, refused=first_line(error))


def _choose(trials: Mapping[str, _Trial], artifact: Artifact, reference: Golden) -> str | None:
    """The fastest that is no slower than the model as it was, and answers the golden data as it did."""
    for method, trial in sorted(trials.items(), key=lambda item: item[1].worst):
        if trial.refused or trial.worst > 1:
            continue
        given, outputs = session.load_file(artifact.entry_path), [spec.name for spec in artifact.outputs]
        call = session.caller(given, artifact.inputs, outputs, ready=trial.run)
        try:
            compared = compare_all(
                Session(call, artifact.inputs, artifact.outputs), reference.cases, artifact.precision, {}
            )
        except MxError as error:
            trial.refused = error.message
            continue
        trial.refused = next((str(each) for each in compared if not each.ok), "")
        if not trial.refused:
            return method
    return None


def _measure(artifact: Artifact, trials: Sequence[_Trial], cases: Sequence[GoldenCase]) -> None:
    """Note each trial's latency at each case, relative to the artifact's own."""
    import torch

    base = session.load_file(artifact.entry_path)
    as_it_is = _as_it_is(artifact, base)
    for case in cases:
        with torch.inference_mode():
            first = _call(as_it_is, base, artifact, case)
            ratios = latency_ratios([first, *(_call(trial.run, base, artifact, case) for trial in trials)])
        for trial, ratio in zip(trials, ratios, strict=True):
            trial.ratios[case.name] = round(ratio, 3)


def _as_it_is(artifact: Artifact, module: Any) -> Any:
    """What a session on the artifact calls."""
    return session.for_inference(module) if session.AT_LOAD in artifact.details.get("at_load", ()) else module


def _call(run: Any, module: Any, artifact: Artifact, case: GoldenCase) -> Callable[[], Any]:
    tensors = {spec.name: to_torch(case.inputs[spec.name]) for spec in artifact.inputs}
    if session.takes_names(module, list(tensors)):
        return lambda: run(**tensors)
    return lambda: run(*tensors.values())


def _said(method: str, trial: _Trial, kept: str | None) -> str:
    if trial.refused:
        return f"{method} is not kept: {trial.refused}"
    shown = ", ".join(f"{ratio:.2f} × at {case!r}" for case, ratio in trial.ratios.items())
    verdict = "is kept" if method == kept else "is not kept"
    beaten = f"; {kept} is faster" if kept not in (None, method) and trial.worst <= 1 else ""
    return f"{method} {verdict}: latency {shown}, relative to the model as it was{beaten}"
