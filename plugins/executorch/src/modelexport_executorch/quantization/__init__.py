"""Quantizing an ExecuTorch artifact: from the captured program that it keeps, through torchao, lowered anew.

layers.py   the layers of a captured program, by the names of their weights
apply.py    integers by PT2E and XNNPACK's quantizer, or by torchao for 4 bits
rank.py     which layers suffer most, each quantized alone
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Build, Captured, QuantizationReport, QuantizedLayer, Session, Trial
from modelexport.errors import ConversionError, OptionError, first_line
from modelexport.toolkit import check_program, dynamic_shapes, load_golden, module_reference, recaptured

from .. import account, backends, export, lowering
from . import apply, layers, rank

if TYPE_CHECKING:
    from modelexport.contract import Arrays, Calibration, Goal

    from .. import QuantizeOptions

#: samples that ranges of activations are taken from, and rows of a batch of them, at most
SAMPLES, ROWS = 128, 8

#: shares of the layers that a search leaves in float32, one after another
SHARES = (0.0, 0.04, 0.1, 0.2, 0.35, 0.6)


@dataclass(frozen=True)
class Work:
    """What every attempt at one artifact needs: its program, what was asked, and samples of its inputs."""

    artifact: Artifact
    captured: Captured
    mode: str
    options: QuantizeOptions
    samples: Sequence[Arrays]

    @cached_property
    def layers(self) -> Mapping[str, layers.Found]:
        return layers.find(self.captured.program)

    @property
    def bits(self) -> int:
        return self.options.bits

    def excluded(self) -> set[str]:
        return {n for n in self.layers if any(fnmatch.fnmatchcase(n, p) for p in self.options.exclude)}


def _recaptured(work: Work, module: Any) -> Any:
    """The quantized module as a captured program again."""
    try:
        return recaptured(work.captured, work.captured.inputs, module=module).program
    except Exception as error:
        raise ConversionError(
            f"torch.export can't capture the quantized program: {first_line(error)}",
            "try another -k mode=; --debug shows the trace",
        ) from error


def quantize(
    artifact: Artifact, out: Path, options: QuantizeOptions, calibration: Calibration | None, goal: Goal | None
) -> Build:
    """Write a quantized copy of the artifact into `out`.

    With a goal that allows a drop only so large, the layers that suffer most stay in float32 until it holds.
    Raises OptionError for what can't be asked, ConversionError where nothing can be quantized.
    """
    work = _work(artifact, options, calibration)
    with export.hushed():
        left, module, trials = _search(work, goal)
        program = _recaptured(work, module)
    names = tuple(artifact.details.get("backend", ("xnnpack",)))
    finished, details = export.lowered(program, names, fuse=work.bits == 4)
    (out / export.FILE).write_bytes(finished.buffer)
    found = tuple(_layers(work, module, left))
    if not any(layer.precision.startswith("int") for layer in found):
        raise ConversionError(
            f"nothing of the model can be quantized in mode {work.mode}", "try another -k mode=, or exclude less"
        )
    real = calibration is not None and work.mode == "static"
    report = QuantizationReport(
        work.mode, _settings(work), found, trials, tuple(_warnings(work, calibration)), calibrated=real
    )
    details |= {"backend": list(names), "bounds": artifact.details.get("bounds", {})}
    notes = (*_notes(found, report), *account.notes(details))
    return Build(export.FILE, ("torch", "torchao", "executorch"), f"int{work.bits}", details, notes, report)


# --------------------------------------------------------------------------------------- what is asked


def _work(artifact: Artifact, options: QuantizeOptions, calibration: Calibration | None) -> Work:
    """Raises OptionError and ConversionError for what can't be quantized."""
    if artifact.precision != "float32":
        raise OptionError(f"{artifact.path} is {artifact.precision} already", "quantize the float32 artifact")
    chosen = list(artifact.details.get("backend", ("xnnpack",)))
    if not set(chosen) <= {"xnnpack", backends.PORTABLE}:
        raise OptionError(
            f"{artifact.path} is lowered to {', '.join(chosen)}, which quantizes in ways of its own",
            "quantize one that was exported with -k backend=xnnpack",
        )
    captured = _program(artifact)
    mode = _mode(captured, options)
    if options.bits == 4 and mode == "static":
        raise OptionError("XNNPACK has no static 4-bit operators", "-k mode=dynamic -k bits=4")
    if options.group_size < 32 or options.group_size % 32:
        raise OptionError(
            f"groups of {options.group_size} are none of XNNPACK's", "-k group-size= takes 32, 64, …"
        )
    return Work(artifact, captured, mode, options, _samples(artifact, calibration, mode))


def _program(artifact: Artifact) -> Captured:
    """The captured program that the artifact keeps, with the bounds that it was lowered with."""
    import torch

    path = artifact.path / export.PROGRAM
    if not path.is_file():
        raise OptionError(
            f"{artifact.path} does not keep the captured program, which quantization starts from",
            "export it again, without -k keep-program=false",
        )
    check_program(path)
    try:
        program = torch.export.load(path)
    except Exception as error:
        raise ConversionError(
            f"PyTorch can't load {path}: {first_line(error)}", "export the model again with this torch"
        ) from error
    shapes = dynamic_shapes(artifact.inputs)
    captured = Captured(program, artifact.inputs, artifact.outputs, shapes)
    return lowering.bounded(captured, artifact.details.get("bounds", {}))


def _mode(captured: Captured, options: QuantizeOptions) -> str:
    """What was asked for; `auto` is static for convolutions, whose activations are tame, dynamic for the rest."""
    if options.mode != "auto":
        return options.mode
    kinds = [found.kind for found in layers.find(captured.program).values()]
    mostly = sum(kind.startswith("conv") for kind in kinds) > len(kinds) / 2
    return "static" if mostly and options.bits == 8 else "dynamic"


def _samples(artifact: Artifact, calibration: Calibration | None, mode: str) -> list[Arrays]:
    """Real inputs where there are any, else those of the golden cases; one is enough where nothing is measured."""
    found: list[Arrays] = []
    count = 0
    cases = (case.inputs for case in load_golden(artifact.golden).cases)
    for batch in calibration.batches(ROWS) if calibration is not None else cases:
        found.append(batch)
        count += next(iter(batch.values())).shape[0] if next(iter(batch.values())).ndim else 1
        if mode == "dynamic" or count >= SAMPLES:
            break
    return found


# --------------------------------------------------------------------------------------- attempts


def _search(work: Work, goal: Goal | None) -> tuple[set[str], Any, tuple[Trial, ...]]:
    """Layers left in float32, the quantized module, and what was tried."""
    excluded = work.excluded()
    if goal is None or goal.max_drop is None:
        return excluded, apply.quantized(work, excluded), ()
    ranked = [name for name in rank.most_harmful(work, goal) if name not in excluded]
    trials: list[Trial] = []
    attempts: list[tuple[float, set[str], Any]] = []
    for count in dict.fromkeys(round(share * len(ranked)) for share in SHARES):
        left = excluded | set(ranked[:count])
        module = apply.quantized(work, left)
        drop = goal.drop(simulated(work, module))
        holds = goal.holds(drop)
        what = f"{work.mode} int{work.bits}" + (f", {count} layers in float32" if count else "")
        trials.append(
            Trial(what, drop, tuple(ranked[:count]), True, verdict="kept" if holds else "drops too much")
        )
        attempts.append((drop, left, module))
        if holds:
            break
    _, left, module = attempts[-1] if holds else min(attempts, key=lambda attempt: attempt[0])
    return left, module, tuple(trials)


def simulated(work: Work, module: Any) -> Session:
    """A quantized module as a Session, computed by PyTorch."""
    import torch

    names = [spec.name for spec in work.artifact.outputs]
    reference = module_reference(module, work.captured.inputs, names, work.captured.program)

    def call(inputs: Mapping[str, Any]) -> Arrays:
        with torch.no_grad():
            return reference(dict(inputs))

    return Session(call, work.captured.inputs, work.artifact.outputs)


# --------------------------------------------------------------------------------------- account


def _settings(work: Work) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "bits": work.bits,
        "quantizer": "XNNPACKQuantizer" if work.bits == 8 else "torchao",
    }
    settings["weights"] = "per channel" if work.bits == 8 else f"groups of {work.options.group_size}"
    settings["activations"] = "calibrated int8" if work.mode == "static" else "int8, scaled as they come"
    return settings


def _layers(work: Work, module: Any, left: set[str]) -> list[QuantizedLayer]:
    """What became of each layer of the program."""
    done = apply.done(work, module)
    excluded = work.excluded()
    precision = f"int{work.bits}" if work.bits == 8 else "int4 weights"
    made = []
    for name, layer in work.layers.items():
        note = "excluded" if name in excluded else "left: it suffers most" if name in left else ""
        if name not in done and not note:
            note = layers.reason(layer, work.mode, work.bits)
        own = precision if name in done else "float32"
        saved = int(layer.bytes * (1 - work.bits / 32)) if name in done else 0
        made.append(
            QuantizedLayer(
                name, layer.kind, own, layer.range, bytes_saved=saved, note="" if name in done else note
            )
        )
    return made


def _warnings(work: Work, calibration: Calibration | None) -> list[str]:
    lines = []
    if work.mode == "static" and calibration is None:
        lines.append("calibrated on the golden cases, random inputs: give --calibration with real ones")
    elif work.mode == "static" and len(calibration or ()) < 32:
        lines.append(f"calibrated on {len(calibration or ())} samples: a hundred or so calibrate well")
    if work.mode == "static" and any(layer.kind == "embedding" for layer in work.layers.values()):
        lines.append("static ranges hold badly for transformers: compare with -k mode=dynamic")
    return lines


def _notes(found: Sequence[QuantizedLayer], report: QuantizationReport) -> list[str]:
    left = [layer for layer in found if not layer.precision.startswith("int")]
    lines = [*report.warnings, *(f"{layer.name} stays in float32: {layer.note}" for layer in left[:5])]
    if len(left) > 5:
        lines.append(f"{len(left) - 5} more layers stay in float32: see `mx inspect --quantization`")
    return lines


__all__ = ["Work", "quantize", "simulated"]
