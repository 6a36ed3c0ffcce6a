"""Weights in fewer bits, by coremltools.optimize: integers, palettes, pruning; and 8-bit activations.

weights.py      the constants worth compressing, and their compression
activations.py  8-bit activations
account.py      what became of every weight and operator
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from modelexport.contract import Artifact, Build
from modelexport.errors import OptionError
from modelexport.toolkit import failed, matching, stage, translated

from .. import files
from ..backend import coremltools, quiet
from ..files import FILE
from . import account, activations, weights

if TYPE_CHECKING:
    from modelexport.contract import Calibration

    from .. import QuantizeOptions

#: the specification that knows 4-bit integers, blocks and a palette for each group of channels: iOS 18, macOS 15
_IOS18 = 9

#: the one that knows operators that quantize: iOS 17, macOS 14
_IOS17 = 8


def quantize(artifact: Artifact, out: Path, options: QuantizeOptions, calibration: Calibration | None) -> Build:
    """Write a copy of the artifact with compressed weights, and 8-bit activations where asked, into `out`.

    Constants with infinities (masks) stay as they are, since no scale or palette holds them. Raises OptionError
    for what the artifact's system does not take and for patterns that match nothing, ConversionError where
    coremltools fails or nothing is left to compress.
    """
    with quiet():
        model = coremltools().models.MLModel(str(artifact.entry_path), skip_model_load=True)
    version = model.get_spec().specificationVersion
    _check_system(version, artifact, options)
    with quiet():
        constants = weights.constants(model)
    program = files.load_program(artifact.entry_path) if options.mode == "activations" else None
    candidates = activations.candidates(program) if program is not None else []
    names = [*(constant.name for constant in constants), *(op.name for op in candidates)]
    excluded = matching(names, options.exclude)
    chosen = weights.choose(constants, options.min_size, excluded)
    operators: list[activations.Activation] = []
    if candidates:
        ends = activations.ranges(artifact, program, calibration)
        operators = activations.choose(candidates, ends, excluded)
        with _attempt("quantize the activations"):
            model = activations.quantized(model, ends, operators)
    with _attempt("compress the weights"):
        model = weights.compressed(model, chosen, options, options.group_size if version >= _IOS18 else 0)
    with quiet():
        model.save(str(out / FILE))
    return account.build(artifact, out, chosen, operators, options, calibration is not None)


def _check_system(version: int, artifact: Artifact, options: QuantizeOptions) -> None:
    if options.mode == "linear" and options.bits == 4 and version < _IOS18:
        raise OptionError(
            "4-bit integers need iOS 18", "export with -k deployment-target=iOS18, or use -k mode=palettize"
        )
    if options.mode != "activations":
        return
    if version < _IOS17:
        raise OptionError("8-bit activations need iOS 17", "export with -k deployment-target=iOS17")
    if artifact.precision != "float16":
        raise OptionError(
            "8-bit activations are for what the Neural Engine computes, in float16",
            "export with -k compute-precision=float16",
        )


@contextmanager
def _attempt(doing: str) -> Iterator[None]:
    """A stage of coremltools' work. Raises ConversionError where it fails; a full disk stays what it is."""
    stage(doing)
    hint = "leave out constants with -k exclude=…, or try another -k mode=; --debug shows the trace"
    with quiet(), translated(failed(f"coremltools can't {doing}", hint)):
        yield
