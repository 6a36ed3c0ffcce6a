"""One quantized copy: writing it, and how far the score falls with it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact
from modelexport.errors import MxError
from modelexport.toolkit import failed, translated

from .. import metadata, naming, session
from ..backend import quiet
from . import recipe

if TYPE_CHECKING:
    from modelexport.contract import Goal

    from .. import QuantizeOptions


@dataclass(frozen=True)
class Work:
    """What every attempt at one artifact needs.

    `model` is the float file as a tree of objects, `excluded` the operators that the user leaves out, by what they
    write, and `ranges` what each tensor's values lie between, where they were calibrated.
    """

    artifact: Artifact
    model: Any
    mode: str
    options: QuantizeOptions
    excluded: Collection[str] = ()
    ranges: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def layers(self) -> Mapping[str, naming.Layer]:
        return naming.layers(self.model)

    @cached_property
    def operators(self) -> Mapping[str, Any]:
        return naming.operators(self.model)

    @property
    def bits(self) -> int:
        """Bits of a weight."""
        return 8 if self.mode == "static" else self.options.bits

    @property
    def precision(self) -> str:
        return "float16" if self.mode == "float16" else f"int{self.bits}"

    def excluding(self, names: Iterable[str]) -> Work:
        """The same with more operators excluded."""
        return replace(self, excluded={*self.excluded, *names})


def write(work: Work, path: Path, left: Collection[str] = ()) -> None:
    """Write the file with everything quantized that can be, but for the excluded operators and those in `left`.

    Layers `left` out of static quantization keep int8 weights, and quantize what they get as they run. Raises
    ConversionError where the quantizer fails.
    """
    with quiet():
        from ai_edge_quantizer import quantizer

        prefixes = [naming.prefix(signature) for signature in work.model.signatureDefs or ()]
        hint = "leave layers out with -k exclude=…, or try another -k mode=; --debug shows the trace"
        with translated(failed("ai-edge-quantizer can't quantize the model", hint)):
            tool = quantizer.Quantizer(str(work.artifact.entry_path))
            recipe.everything(tool, work.mode, work.bits, work.options.io)
            recipe.leave_out(tool, sorted(work.excluded), prefixes, layers_as_they_run=False)
            recipe.leave_out(tool, sorted(left), prefixes, layers_as_they_run=work.mode == "static")
            result = tool.quantize(work.ranges or None, enable_progress_report=False)
    path.write_bytes(result.quantized_model)
    metadata.carry(work.artifact.entry_path, path)


def drop(work: Work, path: Path, goal: Goal) -> float:
    """How much less than the artifact the copy at `path` scores; infinite where it does not run."""
    from .. import RunOptions

    copy = replace(work.artifact, path=path.parent, entry=path.name)
    try:
        with session.open_artifact(copy, RunOptions()) as opened:
            return goal.drop(opened)
    except MxError:
        return math.inf
