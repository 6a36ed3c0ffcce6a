"""8-bit activations: their ranges by the interpreter, on any machine; the operators by coremltools' own passes.

coremltools reads the ranges off predictions, which exist on macOS only; what it then does with them runs anywhere.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact

from . import package, session

if TYPE_CHECKING:
    from modelexport.contract import Arrays

#: name of a value in the program → the smallest and the largest that it was
Ranges = Mapping[str, tuple[float, float]]

#: operators whose inputs and outputs the passes quantize
KINDS = ("conv", "linear", "add", "avg_pool", "max_pool")

#: coremltools takes ranges in half precision
_LARGEST = 65504.0

_PASSES = (
    "compression::insert_prefix_quantize_dequantize_pair",
    "compression::insert_suffix_quantize_dequantize_pair",
    "common::dequantize_quantize_pair_elimination",
)


def ranges(artifact: Artifact, program: Any, samples: Iterable[Arrays]) -> Ranges:
    """What each value of the program was between, over all samples."""
    import torch

    from .interpreter import Interpreter

    found: dict[str, tuple[float, float]] = {}

    def watch(name: str, value: Any) -> None:
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel():
            low, high = (float(end) for end in value.aminmax())
            before = found.get(name, (low, high))
            found[name] = (min(low, before[0]), max(high, before[1]))

    interpreter = Interpreter.of(program)
    interpreter.watch = watch
    features = {feature.name: feature for feature in package.load_spec(artifact.entry_path).description.input}
    compute = session.computer(interpreter, features, artifact.inputs, artifact.details)
    for sample in samples:
        compute(sample)
    return found


def candidates(program: Any, found: Ranges, exclude: Sequence[str]) -> Iterator[tuple[Any, str]]:
    """The operators whose activations can be quantized, each with why it is not to be, or an empty text."""
    for op in package.operations(program):
        if op.op_type not in KINDS:
            continue
        values = [op.inputs["x"], *([op.inputs["y"]] if op.op_type == "add" else []), op.outputs[0]]
        if any(var.op is not None and var.op.op_type == "const" for var in values):
            continue
        kept = ""
        if any(fnmatch.fnmatchcase(op.name, pattern) for pattern in exclude):
            kept = "excluded"
        elif not all(var.name in found for var in values):
            kept = "no sample reached it"
        elif not all(abs(end) <= _LARGEST for var in values for end in found[var.name]):
            kept = "its values are beyond half precision"
        yield op, kept


def quantized(model: Any, found: Ranges, kept: Iterable[str]) -> Any:
    """A copy of the model that rounds activations to 8 bits, but for the operators named in `kept`."""
    import coremltools as ct
    import coremltools.optimize.coreml as cto
    from coremltools.converters.mil.frontend.milproto import load
    from coremltools.converters.mil.mil.passes.graph_pass import PassOption
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
    from coremltools.models.utils import _apply_graph_pass

    config = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig(mode="linear_symmetric"))
    for name in kept:
        config.set_op_name(name, None)
    stats = {name: {"rmin": low, "rmax": high} for name, (low, high) in found.items()}
    passes = [PASS_REGISTRY[name] for name in _PASSES]
    for each in passes[:2]:
        each.set_options([PassOption("config", config), PassOption("activation_stats", stats)])
    return _apply_graph_pass(
        model, passes, spec_version=ct.target.iOS17.value, pymil_load_func=load.load, skip_model_load=True
    )
