"""Freeze, and optimize_for_inference: each kept only where it is measured to be no slower.

Freezing makes weights constants and folds what depends on them alone; optimize_for_inference does that and
rewrites the graph for this machine's CPU, into weights that PyTorch can't save. So the artifact holds the frozen
model, and a session rewrites it as it loads. Both have been seen to make a model 40 times slower. So everything
is timed as a session will run it, loaded from its file, in turns with the model as it was; and only after calls
of the same shapes, since TorchScript compiles in its first ones.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Build, Session
from modelexport.errors import MxError, first_line, is_disk_error
from modelexport.toolkit import GoldenCase, cases_to_time, latency_ratios, load_golden, steps, to_torch, verdict

from . import files, schema, session, trust
from .backend import silenced
from .files import FILE

if TYPE_CHECKING:
    from . import OptimizeOptions

METHODS = ("freeze", session.AT_LOAD)

#: what is tried for each value of the option `method`
_ASKED = {"auto": METHODS, "none": ()}


@dataclass(frozen=True)
class _Candidate:
    """A rewritten model: the file to keep, what to call, and why it is not kept, if it isn't.

    `ratios` are its latencies relative to the model as it was, by the case they were measured on.
    """

    method: str
    file: Path
    run: Any = None
    refused: str = ""
    ratios: Mapping[str, float] = field(default_factory=dict)

    @property
    def slowest(self) -> float:
        return max(self.ratios.values(), default=float("inf"))

    @property
    def good(self) -> bool:
        """Whether it answers as the model as it was, and nowhere more slowly."""
        return not self.refused and self.slowest <= 1


def optimize(artifact: Artifact, out: Path, options: OptimizeOptions) -> Build:
    """Write the fastest equivalent of the artifact into `out`: the model unchanged where nothing helps.

    The details tell each method's latency relative to the model as it was, at each size measured. Raises
    UnsafeFileError for an archive that could touch files or processes, unless `options` allow it.
    """
    asked = _ASKED.get(options.method, (options.method,))
    cases = load_golden(artifact.golden).cases
    with tempfile.TemporaryDirectory(dir=out) as folder:
        if not options.allow_file_access:
            trust.check(artifact.entry_path)
        candidates = [_rewritten(name, artifact, Path(folder)) for name in steps(asked, "rewrite the model")]
        candidates = _timed(candidates, artifact, cases_to_time(cases))
        candidates = [_judged(each, artifact, cases) for each in candidates]
        best = min((each for each in candidates if each.good), key=lambda each: each.slowest, default=None)
        shutil.copyfile(best.file if best is not None else artifact.entry_path, out / FILE)
    kept = best.method if best is not None else ""
    notes = [_note(each, kept) for each in candidates] + ([] if kept else ["the model is written unchanged"])
    details = {
        "kept": kept or "nothing: the model is unchanged",
        "ratios": {each.method: each.ratios for each in candidates},
        "at_load": [kept] if kept == session.AT_LOAD else [] if kept else artifact.details.get("at_load", []),
    }
    return Build(FILE, ("torch",), artifact.precision, details, tuple(notes))


def _rewritten(method: str, artifact: Artifact, folder: Path) -> _Candidate:
    """The model rewritten by one method, and loaded again from its file."""
    import torch

    before, file = files.load(artifact.entry_path, trusted=True), folder / f"{method}.pt"
    try:
        with silenced():
            methods = schema.methods(before)
            frozen = (
                before if schema.is_frozen(before) else torch.jit.freeze(before.eval(), preserved_attrs=methods)
            )
            files.save(frozen, file)
            loaded = files.load(file, trusted=True)
            return _Candidate(method, file, session.for_inference(loaded) if method == session.AT_LOAD else loaded)
    except (MxError, RuntimeError) as error:
        if is_disk_error(error):
            raise
        return _Candidate(method, file, refused=first_line(error))


def _timed(candidates: Sequence[_Candidate], artifact: Artifact, cases: Sequence[GoldenCase]) -> list[_Candidate]:
    """The candidates with their latencies at each case; those that could not be made stay as they are."""
    import torch

    runnable = [each for each in candidates if not each.refused]
    base = files.load(artifact.entry_path, trusted=True)
    models = [session.as_it_runs(base, artifact), *(each.run for each in runnable)]
    ratios: dict[str, dict[str, float]] = {each.method: {} for each in candidates}
    for case in steps(cases, "time the model in turns") if runnable else ():
        with torch.inference_mode():
            measured = latency_ratios([_call(model, base, artifact, case) for model in models])
        for candidate, ratio in zip(runnable, measured, strict=True):
            ratios[candidate.method][case.name] = round(ratio, 3)
    return [replace(each, ratios=ratios[each.method]) for each in candidates]


def _judged(candidate: _Candidate, artifact: Artifact, cases: Sequence[GoldenCase]) -> _Candidate:
    """The candidate, refused where it is fast enough and does not answer the golden data as it should."""
    if not candidate.good:
        return candidate
    module, outputs = files.load(artifact.entry_path, trusted=True), [spec.name for spec in artifact.outputs]
    call = session.caller(module, artifact.inputs, outputs, ready=candidate.run)
    judged = verdict(Session(call, artifact.inputs, artifact.outputs), cases, artifact.precision)
    return replace(candidate, refused=str(judged))


def _call(run: Any, module: Any, artifact: Artifact, case: GoldenCase) -> Callable[[], Any]:
    """A call of `run` on the inputs of a case; `module` says whether they go in by name."""
    tensors = {spec.name: to_torch(case.inputs[spec.name]) for spec in artifact.inputs}
    if schema.takes_names(module, list(tensors)):
        return lambda: run(**tensors)
    return lambda: run(*tensors.values())


def _note(candidate: _Candidate, kept: str) -> str:
    """What is said of a candidate; `kept` is the method that was, if any."""
    if candidate.refused:
        return f"{candidate.method} is not kept: {candidate.refused}"
    ratios = ", ".join(f"{ratio:.2f} × at {case!r}" for case, ratio in candidate.ratios.items())
    outcome = "is kept" if candidate.method == kept else "is not kept"
    beaten = f"; {kept} is faster" if candidate.method != kept and candidate.good else ""
    return f"{candidate.method} {outcome}: latency {ratios}, relative to the model as it was{beaten}"
