"""Candidates, each measured as a session will run it: the fastest is kept that is no slower and computes the same.

    the model → simplified → fused → fused further → fused for the CPU

Each also in half precision, where that is asked for.

candidates.py   made one from another, timed, and judged
fusions.py      simplification, and the fusions that make them

A fused graph need not be faster: ONNX Runtime fuses much of it as it loads a model, and its CPU computes many
half-precision operators by way of float32. So nothing is kept because it ought to help.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Build
from modelexport.errors import OptionError
from modelexport.toolkit import load_golden

from .. import contents, files, session
from . import fusions
from .candidates import NOISE, Candidate, Trials

if TYPE_CHECKING:
    from .. import OptimizeOptions


def optimize(artifact: Artifact, out: Path, options: OptimizeOptions) -> Build:
    """Write the fastest equivalent of the artifact into `out`: the model unchanged where nothing helps.

    The details tell each candidate's latency relative to the model as it was, at each size measured, what was
    fused, and which nodes stayed in float32. Raises OptionError for a precision that can't be had from this model
    or on this device, and for a model that another runtime is to compute; ConversionError when a conversion fails
    that was asked for.
    """
    if session.ROUNDED in artifact.details:
        raise OptionError(
            f"{artifact.path} is for a compiler, which optimizes what it is given",
            "compile it as it is; what ONNX Runtime is to run is optimized before it is quantized",
        )
    if options.precision != "float32" and artifact.precision != "float32":
        raise OptionError(
            f"precision={options.precision} needs a float32 model, this one is {artifact.precision}",
            "give the artifact of the float32 model",
        )
    cases, workshop = load_golden(artifact.golden).cases, out / "candidates"
    workshop.mkdir()
    trials = Trials(artifact, files.load(artifact.entry_path), options, cases, workshop)
    trials.prepare()
    trials.measure()
    kept = trials.choose()
    files.copy(kept.file if kept is not None else artifact.entry_path, out)
    shutil.rmtree(workshop)
    precision = kept.precision if kept is not None and kept.precision != "float32" else artifact.precision
    tools = ("onnxruntime", "onnx", "onnxscript", "onnxslim")
    path = out / files.FILE
    return Build(files.FILE, tools, precision, _details(trials, kept, path), _notes(trials, kept, path))


# --------------------------------------------------------------------------------------- what is said about it


def _details(trials: Trials, kept: Candidate | None, path: Path) -> dict[str, Any]:
    """What the manifest says of the model that was written to `path`."""
    written = files.load_graph(path)
    return {
        "kept": kept.name if kept is not None else "nothing: the model is unchanged",
        "ratios": {candidate.name: candidate.ratios for candidate in trials.candidates},
        "fusions": fusions.fused_operators(trials.original, written),
        "operators_before": contents.operators(trials.original),
        "operators": contents.operators(written),
        "size_before": files.size(trials.artifact.entry_path),
        "size": files.size(path),
        "kept_in_float32": kept.kept_in_float32 if kept is not None else {},
        "target_device": trials.options.target_device,
    }


def _notes(trials: Trials, kept: Candidate | None, path: Path) -> tuple[str, ...]:
    """A line for each candidate, and what the one that is kept changed."""
    notes = [_said(candidate, kept, trials.options.target_device) for candidate in trials.candidates]
    notes += trials.notes
    if kept is None:
        return (*notes, "the model is written unchanged")
    written, before = files.load_graph(path), trials.original
    notes.append(
        f"{len(before.graph.node)} operators became {len(written.graph.node)}, "
        f"{_size(files.size(trials.artifact.entry_path))} became {_size(files.size(path))}"
    )
    if fused := fusions.fused_operators(before, written):
        notes.append("fused: " + ", ".join(f"{count} {name}" for name, count in fused.items()))
    return (*notes, *_kept_in_float32(kept.kept_in_float32))


def _said(candidate: Candidate, kept: Candidate | None, device: str) -> str:
    if candidate.refused:
        return f"{candidate.name} is not kept: {candidate.refused}"
    fate = f"{candidate.name} is {'' if candidate is kept else 'not '}kept"
    shown = ", ".join(f"{ratio:.2f} × at {case!r}" for case, ratio in candidate.ratios.items())
    latency = f": latency {shown} on {device}, relative to the model as it was" if shown else ""
    beaten = kept is not None and candidate is not kept and candidate.worst <= NOISE
    return fate + latency + (f"; {kept.name} goes first" if kept is not None and beaten else "")


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _kept_in_float32(kept: dict[str, str], shown: int = 5) -> list[str]:
    """A line for each of the first nodes, and one that counts the rest."""
    lines = [f"{node} stays in float32: {reason}" for node, reason in list(kept.items())[:shown]]
    return lines + ([f"{len(kept) - shown} more nodes stay in float32"] if len(kept) > shown else [])
