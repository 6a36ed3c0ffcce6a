"""The forms of a model that may be faster: made one from another, timed, and judged."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Session
from modelexport.errors import ConversionError, MxError, RuntimeFailure, first_line, is_disk_error
from modelexport.toolkit import GoldenCase, cases_to_time, latency_ratios, stage, steps, verdict

from .. import RunOptions, contents, files, halves, session
from . import fusions

if TYPE_CHECKING:
    from .. import OptimizeOptions
    from ..rounding import Half

#: latency relative to the model as it was up to which a candidate counts as no slower: what two runs of one model
#: differ by
NOISE = 1.02

#: up to this, a candidate that seems slower is measured again
DOUBTFUL = 2.0

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass
class Candidate:
    """A form of the model: its file, latencies by case, and why it is not kept, if there is a reason."""

    name: str
    file: Path
    precision: str = "float32"
    kept_in_float32: dict[str, str] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    refused: str = ""

    @property
    def worst(self) -> float:
        return max(self.ratios.values(), default=1.0)

    @property
    def typical(self) -> float:
        """The geometric mean over the cases: one noisy case must not decide between two that are both faster."""
        return math.exp(statistics.fmean(map(math.log, self.ratios.values()))) if self.ratios else 1.0


@dataclass
class Trials:
    """One model's candidates, and the notes for people that come up on the way."""

    artifact: Artifact
    original: Any
    options: OptimizeOptions
    cases: Sequence[GoldenCase]
    folder: Path
    candidates: list[Candidate] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    # ----------------------------------------------------------------------------------- making them

    def prepare(self) -> None:
        """Make every candidate that the options ask for, each from the one before that worked.

        Raises ConversionError where the level is `basic` and simplifying fails; other failures are notes.
        """
        model = self._rewritten("simplified", fusions.simplify, self.original) or self.original
        if self.options.level != "basic":
            model = self._rewritten("fused", fusions.fuse, model) or model
        if self.options.level == "all":
            model = self._rewritten("fused further", fusions.fuse_further, model) or model
        if self.options.level != "basic" and self.options.target_device == "cpu":
            self._rewritten("fused for the CPU", fusions.for_cpu, model)
        if self.options.precision != "float32":
            as_it_was = Candidate("as it was", self.artifact.entry_path)
            for candidate in list(self.candidates) or [as_it_was]:
                self._halved(candidate, self.options.precision)

    def _rewritten(self, name: str, rewrite: Callable[[Any], Any], model: Any) -> Any:
        stage(f"make a candidate: {name}")
        try:
            rewritten = rewrite(model)
            if rewritten is not None:
                self._add(name, rewritten)
            return rewritten
        except Exception as error:
            if is_disk_error(error):
                raise
            if self.options.level == "basic":
                raise ConversionError(
                    f"the model can't be simplified: {type(error).__name__}: {first_line(error)}",
                    "--debug shows the whole trace",
                ) from error
            self.notes.append(f"{name}: failed, and was left out: {type(error).__name__}: {first_line(error)}")
            return None

    def _halved(self, candidate: Candidate, dtype: Half) -> None:
        stage(f"make a candidate: {candidate.name}, {dtype}")
        provider = PROVIDERS[self.options.target_device]
        model, kept = halves.convert(files.load(candidate.file), dtype, self.cases, provider)
        self._add(f"{candidate.name}, {dtype}", model, dtype, kept)

    def _add(self, name: str, model: Any, precision: str = "float32", kept: dict[str, str] | None = None) -> None:
        _same_interface(name, self.original, model)
        contents.keep_origins(self.original, model)
        folder = self.folder / str(len(self.candidates))
        folder.mkdir()
        files.save(model, folder / files.FILE)
        self.candidates.append(Candidate(name, folder / files.FILE, precision, kept or {}))

    # ----------------------------------------------------------------------------------- judging them

    @property
    def measurable(self) -> bool:
        """Whether this machine has what the model is optimized for."""
        import onnxruntime

        return PROVIDERS[self.options.target_device] in onnxruntime.get_available_providers()

    def _open(self, path: Path) -> Any:
        device = self.options.target_device if self.measurable else "cpu"
        return session.open_file(path, RunOptions(providers=(device,)))

    def measure(self) -> None:
        """Note each candidate's latency at each case, relative to the model as it was."""
        if not self.measurable:
            self.notes.append(
                f"latency is not measured: this onnxruntime has no {self.options.target_device} provider"
            )
            return
        base = self._open(self.artifact.entry_path)
        for candidate in steps(self.candidates, "time the candidates"):
            try:
                runtime = self._open(candidate.file)
            except RuntimeFailure as error:
                candidate.refused = error.message
                continue
            for case in cases_to_time(self.cases):
                candidate.ratios[case.name] = round(_ratio(base, runtime, case), 3)

    def choose(self) -> Candidate | None:
        """The fastest that is no slower and answers the golden data as the source does.

        Those of the precision that was asked for go first. With keep_slower, the one that everything asked for
        was done to goes first, whatever its latency.
        """
        latest = {candidate.name: -place for place, candidate in enumerate(self.candidates)}

        def rank(candidate: Candidate) -> tuple[bool, float, int]:
            latency = 1.0 if self.options.keep_slower else candidate.typical
            return candidate.precision != self.options.precision, latency, latest[candidate.name]

        stage("compare the candidates with the golden data")
        for candidate in sorted(self.candidates, key=rank):
            slower = candidate.worst > NOISE and not self.options.keep_slower
            if candidate.refused or slower:
                continue
            candidate.refused = self._problem(candidate)
            if not candidate.refused:
                return candidate
        return None

    def _problem(self, candidate: Candidate) -> str:
        """What a candidate computes otherwise than the source, in one line; empty where it computes the same."""
        precision = self.artifact.precision if candidate.precision == "float32" else candidate.precision
        try:
            call = session.caller(self._open(candidate.file), [spec.name for spec in self.artifact.outputs])
        except MxError as error:
            return self._not_run(candidate, error.message)
        opened = Session(call, self.artifact.inputs, self.artifact.outputs)
        judged = verdict(opened, self.cases, precision)
        return self._not_run(candidate, judged.failure) if judged.failure else str(judged)

    def _not_run(self, candidate: Candidate, why: str) -> str:
        """The problem with a candidate that does not run; none where this machine isn't what it is for."""
        if self.measurable:
            return why
        self.notes.append(f"{candidate.name} could not be compared here: {why}")
        return ""


def _ratio(base: Any, runtime: Any, case: GoldenCase) -> float:
    """Latency relative to the base; measured again where it seems slower, since a busy machine looks like that."""
    inputs = dict(case.inputs)
    calls = [lambda: base.run(None, inputs), lambda: runtime.run(None, inputs)]
    (ratio,) = latency_ratios(calls)
    return min(ratio, *latency_ratios(calls)) if NOISE < ratio < DOUBTFUL else ratio


def _same_interface(name: str, original: Any, model: Any) -> None:
    """Check names, order and dtypes of inputs and outputs, and give them their dims back.

    Raises ConversionError for the first difference.
    """
    for kind in ("input", "output"):
        wanted, own = getattr(original.graph, kind), getattr(model.graph, kind)
        if [_signature(value) for value in wanted] != [_signature(value) for value in own]:
            raise ConversionError(
                f"{name}: the {kind}s changed from {', '.join(map(_signature, wanted))} to "
                f"{', '.join(map(_signature, own))}",
                "report it to the authors of the optimizer",
            )
        for value, before in zip(own, wanted, strict=True):
            value.CopyFrom(before)


def _signature(value: Any) -> str:
    kind = value.type.tensor_type
    return f"{value.name}:{kind.elem_type}[{'…' if not kind.HasField('shape') else len(kind.shape.dim)}]"
