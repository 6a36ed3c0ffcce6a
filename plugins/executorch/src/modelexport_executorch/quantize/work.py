"""What is asked of one quantization: the program, how, which layers, and samples; and what can't be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Captured
from modelexport.errors import OptionError
from modelexport.toolkit import call_arguments, load_golden, matching, to_torch

from .. import delegates, files, lowering
from .layers import Layer, layers_of

if TYPE_CHECKING:
    from modelexport.contract import Arrays, Calibration

    from .. import QuantizeOptions

#: samples that ranges of activations are taken from, and rows of a batch of them, at most
SAMPLES, ROWS = 128, 8


@dataclass(frozen=True)
class Work:
    """What every attempt at one artifact needs.

    `captured` is its program with the bounds that it was lowered with, `mode` "static" or "dynamic"; `layers` are
    the program's by name, `excluded` those that the user leaves out, `samples` inputs by name.
    """

    artifact: Artifact
    captured: Captured
    mode: str
    bits: int
    group_size: int
    layers: Mapping[str, Layer]
    excluded: frozenset[str]
    samples: Sequence[Arrays]

    def arguments(self, sample: Arrays) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments of one call of the program, as tensors."""
        tensors = {name: to_torch(array) for name, array in sample.items()}
        return call_arguments(self.captured.program, self.captured.inputs, tensors)


def prepared(artifact: Artifact, options: QuantizeOptions, calibration: Calibration | None) -> Work:
    """The work on one artifact.

    Raises OptionError for what can't be asked of it, ConversionError where PyTorch can't load its program.
    """
    _check(artifact)
    captured = lowering.with_bounds(files.kept(artifact, options.allow_pickle), artifact.details.get("bounds", {}))
    layers = layers_of(captured.program)
    mode = _mode(layers, options)
    return Work(
        artifact,
        captured,
        mode,
        options.bits,
        options.group_size,
        layers,
        matching(layers, options.exclude),
        _samples(artifact, calibration, mode),
    )


def backends(artifact: Artifact) -> tuple[str, ...]:
    """The delegates that an artifact was lowered for."""
    return tuple(artifact.details.get("backend", ("xnnpack",)))


def _check(artifact: Artifact) -> None:
    if artifact.precision != "float32":
        raise OptionError(f"{artifact.path} is {artifact.precision} already", "quantize the float32 artifact")
    if not set(backends(artifact)) <= {"xnnpack", delegates.PORTABLE}:
        raise OptionError(
            f"{artifact.path} is lowered to {', '.join(backends(artifact))}, which quantizes in ways of its own",
            "quantize one that was exported with -k backend=xnnpack",
        )


def _mode(layers: Mapping[str, Layer], options: QuantizeOptions) -> str:
    """What was asked for; `auto` is static for convolutions, whose activations are tame, dynamic for the rest."""
    if options.mode != "auto":
        return options.mode
    mostly = sum(layer.kind.startswith("conv") for layer in layers.values()) > len(layers) / 2
    return "static" if mostly and options.bits == 8 else "dynamic"


def _samples(artifact: Artifact, calibration: Calibration | None, mode: str) -> list[Arrays]:
    """Real inputs where there are any, else those of the golden cases; one is enough where nothing is measured."""
    samples: list[Arrays] = []
    rows = 0
    cases = (case.inputs for case in load_golden(artifact.golden).cases)
    for batch in calibration.batches(ROWS) if calibration is not None else cases:
        samples.append(batch)
        first = next(iter(batch.values()))
        rows += first.shape[0] if first.ndim else 1
        if mode == "dynamic" or rows >= SAMPLES:
            break
    return samples
