"""8-bit activations: their ranges by the interpreter, on any machine; the operators by coremltools' own passes.

coremltools reads the ranges off predictions, which exist on macOS only; what it then does with them runs anywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact
from modelexport.errors import ConversionError
from modelexport.toolkit import load_golden, steps

from .. import files, session
from ..backend import coremltools

if TYPE_CHECKING:
    from modelexport.contract import Arrays, Calibration

#: name of a value in the program → the smallest and the largest that it was
Ranges = Mapping[str, tuple[float, float]]

#: operators whose inputs and outputs the passes quantize
KINDS = ("conv", "linear", "add", "avg_pool", "max_pool")

#: rows of calibration data at a time
_ROWS = 32

#: coremltools takes ranges in half precision
_LARGEST = 65504.0

_PASSES = (
    "compression::insert_prefix_quantize_dequantize_pair",
    "compression::insert_suffix_quantize_dequantize_pair",
    "common::dequantize_quantize_pair_elimination",
)


@dataclass(frozen=True)
class Activation:
    """An operator that could compute with 8-bit activations.

    `range` is that of its input, None where no sample reached it; `kept` says why its activations are left as they
    are, and is empty where they aren't.
    """

    name: str
    kind: str
    range: tuple[float, float] | None = None
    kept: str = ""


def candidates(program: Any) -> list[Any]:
    """The operators whose activations can be quantized. Raises ConversionError where there are none."""
    ops = [op for op in files.operations(program) if op.op_type in KINDS and not _reads_constant(op)]
    if not ops:
        raise _none()
    return ops


def _reads_constant(op: Any) -> bool:
    return any(var.op is not None and var.op.op_type == "const" for var in _values(op))


def _values(op: Any) -> list[Any]:
    """What the passes quantize of an operator: what goes in, and what comes out."""
    return [op.inputs["x"], *([op.inputs["y"]] if op.op_type == "add" else []), op.outputs[0]]


def ranges(artifact: Artifact, program: Any, calibration: Calibration | None) -> Ranges:
    """The ends of each value of the program, over the calibration data or else the gate's generated inputs."""
    import torch

    from ..interpreter import Interpreter

    ends: dict[str, tuple[float, float]] = {}

    def watch(name: str, value: Any) -> None:
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel():
            low, high = (float(end) for end in value.aminmax())
            before = ends.get(name, (low, high))
            ends[name] = (min(low, before[0]), max(high, before[1]))

    interpreter = Interpreter.of(program)
    interpreter.watch = watch
    features = {feature.name: feature for feature in files.load_spec(artifact.entry_path).description.input}
    compute = session.computer(interpreter, features, artifact.inputs, artifact.details)
    for inputs in steps(_samples(artifact, calibration), "measure the ranges of activations"):
        compute(inputs)
    return ends


def _samples(artifact: Artifact, calibration: Calibration | None) -> Iterable[Arrays]:
    if calibration is not None:
        return calibration.batches(_ROWS)
    return [case.inputs for case in load_golden(artifact.golden).cases]


def choose(ops: Sequence[Any], ends: Ranges, excluded: Collection[str]) -> list[Activation]:
    """The candidates, each with its range and why its activations are left. Raises ConversionError if all are."""
    operators = [
        Activation(op.name, op.op_type, ends.get(op.inputs["x"].name), _kept(op, ends, excluded)) for op in ops
    ]
    if all(operator.kept for operator in operators):
        raise _none()
    return operators


def _kept(op: Any, ends: Ranges, excluded: Collection[str]) -> str:
    if op.name in excluded:
        return "excluded"
    own = [ends.get(var.name) for var in _values(op)]
    if None in own:
        return "no sample reached it"
    beyond = any(abs(end) > _LARGEST for pair in own if pair is not None for end in pair)
    return "its values are beyond half precision" if beyond else ""


def _none() -> ConversionError:
    return ConversionError(
        f"the model has no operator whose activations coremltools quantizes: {', '.join(KINDS)}",
        "use -k mode=linear, for the weights alone",
    )


def quantized(model: Any, ends: Ranges, operators: Iterable[Activation]) -> Any:
    """A copy of the model that rounds activations to 8 bits, but for the operators that are kept."""
    ct, cto = coremltools(), coremltools("optimize.coreml")
    option = coremltools("converters.mil.mil.passes.graph_pass").PassOption
    registry = coremltools("converters.mil.mil.passes.pass_registry").PASS_REGISTRY
    config = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig(mode="linear_symmetric"))
    for operator in operators:
        if operator.kept:
            config.set_op_name(operator.name, None)
    stats = {name: {"rmin": low, "rmax": high} for name, (low, high) in ends.items()}
    passes = [registry[name] for name in _PASSES]
    for each in passes[:2]:
        each.set_options([option("config", config), option("activation_stats", stats)])
    return coremltools("models.utils")._apply_graph_pass(
        model,
        passes,
        spec_version=ct.target.iOS17.value,
        pymil_load_func=coremltools("converters.mil.frontend.milproto.load").load,
        skip_model_load=True,
    )
