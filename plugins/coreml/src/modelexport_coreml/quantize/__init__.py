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
from modelexport.toolkit import failed, matching, stage, translated

from .. import files, systems
from ..backend import coremltools, quiet
from ..files import FILE
from . import account, activations, weights

if TYPE_CHECKING:
    from modelexport.contract import Calibration

    from .. import QuantizeOptions


def quantize(artifact: Artifact, out: Path, options: QuantizeOptions, calibration: Calibration | None) -> Build:
    """Write a copy of the artifact with compressed weights, and 8-bit activations where asked, into `out`.

    Constants with infinities (masks) stay as they are, since no scale or palette holds them. Raises OptionError
    for what the artifact's system does not take and for patterns that match nothing, ConversionError where
    coremltools fails or nothing is left to compress.
    """
    spec, folder = files.load_spec(artifact.entry_path), files.weights_folder(artifact.entry_path)
    with quiet():
        # From the path, coremltools would write into the artifact.
        stored = {"weights_dir": str(folder)} if folder.is_dir() else {}
        model = coremltools().models.MLModel(spec, skip_model_load=True, **stored)
    version = model.get_spec().specificationVersion
    systems.check(options, version, artifact.precision)
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
        model = weights.compressed(
            model, chosen, options, options.group_size if version >= systems.VERSIONS["iOS18"] else 0
        )
    with quiet():
        model.save(str(out / FILE))
    return account.build(artifact, out, chosen, operators, options, calibration is not None)


@contextmanager
def _attempt(doing: str) -> Iterator[None]:
    """A stage of coremltools' work. Raises ConversionError where it fails; a full disk stays what it is."""
    stage(doing)
    hint = "leave out constants with -k exclude=…, or try another -k mode=; --debug shows the trace"
    with quiet(), translated(failed(f"coremltools can't {doing}", hint)):
        yield
