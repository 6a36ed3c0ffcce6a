"""Candidates, each measured as a session will run it: the fastest is kept that is no slower and computes the same.

    the model → simplified → fused → fused further → fused for the CPU

Each also in half precision, where that is asked for.

A fused graph need not be faster: ONNX Runtime fuses much of it as it loads a model, and its CPU computes many
half-precision operators by way of float32. So nothing is kept because it ought to help.
"""

from __future__ import annotations

import math
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Build, Session
from modelexport.errors import ConversionError, MxError, OptionError, RuntimeFailure, first_line, is_disk_error
from modelexport.toolkit import GoldenCase, cases_to_time, compare_all, latency_ratios, load_golden

from . import RunOptions, fusions, halves, modelfile, session

if TYPE_CHECKING:
    from . import OptimizeOptions

#: latency relative to the model as it was up to which a candidate counts as no slower: what two runs of one model
#: differ by
NOISE = 1.02

#: up to this, a candidate that seems slower is measured again
DOUBTFUL = 2.0

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass
class _Candidate:
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


def optimize(artifact: Artifact, out: Path, options: OptimizeOptions) -> Build:
    """Write the fastest equivalent of the artifact into `out`: the model unchanged where nothing helps.

    The details tell each candidate's latency relative to the model as it was, at each size measured, what was
    fused, and which nodes stayed in float32. Raises OptionError for a precision that can't be had from this model
    or on this device, ConversionError when a conversion that was asked for fails.
    """
    if options.precision != "float32" and artifact.precision != "float32":
        raise OptionError(
            f"precision={options.precision} needs a float32 model, this one is {artifact.precision}",
            "give the artifact of the float32 model",
        )
    reference = load_golden(artifact.golden)
    workshop = out / "candidates"
    workshop.mkdir()
    trials = _Trials(artifact, modelfile.load(artifact.entry_path), options, reference.cases, workshop)
    trials.prepare()
    trials.measure()
    kept = trials.choose()
    modelfile.copy(kept.file if kept is not None else artifact.entry_path, out)
    shutil.rmtree(workshop)
    precision = kept.precision if kept is not None and kept.precision != "float32" else artifact.precision
    tools = ("onnxruntime", "onnx", "onnxscript", "onnxslim")
    return Build(modelfile.FILE, tools, precision, *_account(trials, kept, out / modelfile.FILE))


@dataclass
class _Trials:
    """One model's candidates, and the notes for people that come up on the way."""

    artifact: Artifact
    original: Any
    options: OptimizeOptions
    cases: Sequence[GoldenCase]
    folder: Path
    candidates: list[_Candidate] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    # ----------------------------------------------------------------------------------- making them

    def prepare(self) -> None:
        """Every candidate that the options ask for, each made from the one before that worked."""
        model = self._rewritten("simplified", fusions.simplify, self.original) or self.original
        if self.options.level != "basic":
            model = self._rewritten("fused", fusions.fuse, model) or model
        if self.options.level == "all":
            model = self._rewritten("fused further", fusions.fuse_further, model) or model
        if self.options.level != "basic" and self.options.target_device == "cpu":
            self._rewritten("fused for the CPU", fusions.for_cpu, model)
        if self.options.precision != "float32":
            as_it_was = _Candidate("as it was", self.artifact.entry_path)
            for candidate in list(self.candidates) or [as_it_was]:
                self._halved(candidate, self.options.precision)

    def _rewritten(self, name: str, rewrite: Callable[[Any], Any], model: Any) -> Any:
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

    def _halved(self, candidate: _Candidate, dtype: halves.Half) -> None:
        provider = PROVIDERS[self.options.target_device]
        model, kept = halves.convert(modelfile.load(candidate.file), dtype, self.cases, provider)
        self._add(f"{candidate.name}, {dtype}", model, dtype, kept)

    def _add(self, name: str, model: Any, precision: str = "float32", kept: dict[str, str] | None = None) -> None:
        _same_interface(name, self.original, model)
        modelfile.keep_origins(self.original, model)
        folder = self.folder / str(len(self.candidates))
        folder.mkdir()
        modelfile.save(model, folder / modelfile.FILE)
        self.candidates.append(_Candidate(name, folder / modelfile.FILE, precision, kept or {}))

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
        for candidate in self.candidates:
            try:
                runtime = self._open(candidate.file)
            except RuntimeFailure as error:
                candidate.refused = error.message
                continue
            for case in cases_to_time(self.cases):
                candidate.ratios[case.name] = round(_ratio(base, runtime, case), 3)

    def choose(self) -> _Candidate | None:
        """The fastest that is no slower and answers the golden data as the source does.

        Those of the precision that was asked for go first. With keep_slower, the one that everything asked for
        was done to goes first, whatever its latency.
        """
        latest = {candidate.name: -place for place, candidate in enumerate(self.candidates)}

        def rank(candidate: _Candidate) -> tuple[bool, float, int]:
            latency = 1.0 if self.options.keep_slower else candidate.typical
            return candidate.precision != self.options.precision, latency, latest[candidate.name]

        for candidate in sorted(self.candidates, key=rank):
            slower = candidate.worst > NOISE and not self.options.keep_slower
            if candidate.refused or slower:
                continue
            candidate.refused = self._problem(candidate)
            if not candidate.refused:
                return candidate
        return None

    def _problem(self, candidate: _Candidate) -> str:
        """What a candidate computes otherwise than the source, in one line; empty where it computes the same."""
        names = [spec.name for spec in self.artifact.outputs]
        precision = self.artifact.precision if candidate.precision == "float32" else candidate.precision
        try:
            call = session.caller(self._open(candidate.file), names)
            compared = compare_all(
                Session(call, self.artifact.inputs, self.artifact.outputs), self.cases, precision, {}
            )
        except MxError as error:
            if self.measurable:
                return error.message
            self.notes.append(f"{candidate.name} could not be compared here: {error.message}")
            return ""
        return next((str(each) for each in compared if not each.ok), "")


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
        wanted, got = getattr(original.graph, kind), getattr(model.graph, kind)
        if [_signature(value) for value in wanted] != [_signature(value) for value in got]:
            raise ConversionError(
                f"{name}: the {kind}s changed from {', '.join(map(_signature, wanted))} to "
                f"{', '.join(map(_signature, got))}",
                "report it to the authors of the optimizer",
            )
        for value, given in zip(got, wanted, strict=True):
            value.CopyFrom(given)


def _signature(value: Any) -> str:
    kind = value.type.tensor_type
    return f"{value.name}:{kind.elem_type}[{'…' if not kind.HasField('shape') else len(kind.shape.dim)}]"


# --------------------------------------------------------------------------------------- what is said about it


def _account(trials: _Trials, kept: _Candidate | None, path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The details of what was written to `path`, and the notes for people."""
    written = modelfile.load_graph(path)
    before, after = modelfile.size(trials.artifact.entry_path), modelfile.size(path)
    fused = fusions.fused_operators(trials.original, written)
    notes = [
        _said(candidate, kept, trials.options.target_device) for candidate in trials.candidates
    ] + trials.notes
    if kept is None:
        notes.append("the model is written unchanged")
    else:
        notes.append(
            f"{len(trials.original.graph.node)} operators became {len(written.graph.node)}, "
            f"{_size(before)} became {_size(after)}"
        )
        if fused:
            notes.append("fused: " + ", ".join(f"{count} {name}" for name, count in fused.items()))
        notes += _kept_in_float32(kept.kept_in_float32)
    details = {
        "kept": kept.name if kept is not None else "nothing: the model is unchanged",
        "ratios": {candidate.name: candidate.ratios for candidate in trials.candidates},
        "fusions": fused,
        "operators_before": modelfile.operators(trials.original),
        "operators": modelfile.operators(written),
        "size_before": before,
        "size": after,
        "kept_in_float32": kept.kept_in_float32 if kept is not None else {},
        "target_device": trials.options.target_device,
    }
    return details, tuple(notes)


def _said(candidate: _Candidate, kept: _Candidate | None, device: str) -> str:
    if candidate.refused:
        return f"{candidate.name} is not kept: {candidate.refused}"
    verdict = f"{candidate.name} is {'' if candidate is kept else 'not '}kept"
    shown = ", ".join(f"{ratio:.2f} × at {case!r}" for case, ratio in candidate.ratios.items())
    latency = f": latency {shown} on {device}, relative to the model as it was" if shown else ""
    beaten = kept is not None and candidate is not kept and candidate.worst <= NOISE
    return verdict + latency + (f"; {kept.name} goes first" if kept is not None and beaten else "")


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _kept_in_float32(kept: dict[str, str], shown: int = 5) -> list[str]:
    """A line for each of the first nodes, and one that counts the rest."""
    lines = [f"{node} stays in float32: {reason}" for node, reason in list(kept.items())[:shown]]
    return lines + ([f"{len(kept) - shown} more nodes stay in float32"] if len(kept) > shown else [])
