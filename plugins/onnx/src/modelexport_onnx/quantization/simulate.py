"""One model that is floating-point and quantized at once: each layer has a switch.

Every layer that quantization changed is there twice, and a boolean input says which of the two the next layer
sees. So the effect of any set of quantized layers is one call away, without building and loading a model for
each: what a search for the layers that must stay in float takes, and what shows the sensitivity of each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelexport.types import Session

from .. import session
from . import graph

if TYPE_CHECKING:
    from modelexport.types import Array, Arrays, Artifact

SWITCHES = "mx_quantized"

#: samples on which the sensitivity of each layer is measured, and how many of them for its own output
SAMPLES, OWN = 8, 2


@dataclass(frozen=True)
class Unit:
    """A node of the floating-point model that the quantized one computes in another way."""

    name: str
    kind: str
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Sensitivity:
    """Signal-to-noise ratios in dB with one unit quantized: of its own output, and of the model's worst one."""

    own: float
    output: float


class Switchable:
    """`float_model` and its quantized form, which must name the tensors between layers alike, in one session."""

    def __init__(self, float_model: Any, quantized: Any, artifact: Artifact) -> None:
        merged, self.units = _merge(float_model, quantized)
        self._artifact = artifact
        self._outputs = [spec.name for spec in artifact.outputs]
        self._runtime = session.open_model(merged, optimization="basic")

    def session(self, left: Collection[str]) -> Session:
        """A Session with every unit quantized but those named."""
        switches = self._switches(left)

        def call(inputs: Mapping[str, Array]) -> dict[str, Array]:
            given = {**inputs, SWITCHES: switches}
            return dict(zip(self._outputs, self._runtime.run(self._outputs, given), strict=True))

        return Session(call, self._artifact.inputs, self._artifact.outputs)

    def _switches(self, left: Collection[str]) -> Array:
        import numpy as np

        return np.array([unit.name not in left for unit in self.units], dtype=bool)

    def sensitivities(self, samples: Sequence[Arrays]) -> dict[str, Sensitivity]:
        """Each unit quantized alone, by its name."""
        import numpy as np

        everything = {unit.name for unit in self.units}
        power = {unit.name: np.zeros(2) for unit in self.units}
        outputs = {unit.name: {name: np.zeros(2) for name in self._outputs} for unit in self.units}
        for index, sample in enumerate(samples[:SAMPLES]):
            own = index < OWN
            tensors = [u.outputs[0] for u in self.units if u.outputs[0] not in self._outputs] if own else []
            reference = self._run(sample, everything, [*self._outputs, *tensors])
            for unit in self.units:
                wanted = [*self._outputs, *([unit.outputs[0]] if unit.outputs[0] in tensors else [])]
                got = self._run(sample, everything - {unit.name}, wanted)
                for name in self._outputs:
                    outputs[unit.name][name] += _power(reference[name], got[name])
                if own:
                    power[unit.name] += _power(reference[unit.outputs[0]], got[unit.outputs[0]])
        return {
            unit.name: Sensitivity(
                _decibels(power[unit.name]), min(_decibels(pair) for pair in outputs[unit.name].values())
            )
            for unit in self.units
        }

    def _run(self, sample: Arrays, left: Collection[str], tensors: Sequence[str]) -> dict[str, Array]:
        values = self._runtime.run(list(tensors), {**sample, SWITCHES: self._switches(left)})
        return dict(zip(tensors, values, strict=True))


def _power(reference: Array, got: Array) -> Array:
    """Signal and noise; what is not finite in the reference does not count, and elsewhere counts as all noise."""
    import numpy as np

    if reference.dtype.kind != "f":
        return np.zeros(2)
    finite = np.isfinite(reference)
    signal = reference[finite].astype(np.float64)
    noise = np.nan_to_num(got[finite].astype(np.float64) - signal, nan=1e30, posinf=1e30, neginf=1e30)
    return np.array([(signal**2).sum(), (noise**2).sum()])


def _decibels(pair: Array) -> float:
    """200 at most, -200 at least: a layer that changes nothing, and one that destroys everything."""
    import numpy as np

    signal, noise = (float(value) for value in pair)
    return float(np.clip(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-30)), -200, 200)) if noise else 200.0


# --------------------------------------------------------------------------------------- merging


def _merge(float_model: Any, quantized: Any) -> tuple[Any, tuple[Unit, ...]]:
    """The quantized model with the floating-point form of each changed node beside it, and a switch after both."""
    import numpy as np
    from onnx import ValueInfoProto, helper, numpy_helper
    from onnxruntime.quantization.onnx_model import ONNXModel

    merged = graph.copy(quantized)
    makers = {name: node for node in merged.graph.node for name in node.output}
    present = {tensor.name for tensor in merged.graph.initializer}
    merged.graph.initializer.extend(t for t in float_model.graph.initializer if t.name not in present)
    units: list[Unit] = []
    for node in float_model.graph.node:
        outputs = tuple(name for name in node.output if name)
        if not _changed(node, outputs, makers):
            continue
        number = f"{SWITCHES}_{len(units)}"
        merged.graph.initializer.append(numpy_helper.from_array(np.array(len(units), np.int64), number))
        merged.graph.node.append(helper.make_node("Gather", [SWITCHES, number], [f"{number}_on"], name=number))
        units.append(Unit(node.name, node.op_type, outputs))
        twin = merged.graph.node.add()
        twin.CopyFrom(node)
        twin.name = f"{number}_float"
        for index, name in enumerate(node.output):
            if name:
                twin.output[index], quantized_name = (f"{number}_{form}_{index}" for form in ("float", "int"))
                maker = makers[name]
                maker.output[list(maker.output).index(name)] = quantized_name
                inputs = [f"{number}_on", quantized_name, twin.output[index]]
                merged.graph.node.append(helper.make_node("Where", inputs, [name], name=f"{number}_{index}"))
    count = max(1, len(units))
    merged.graph.input.append(helper.make_tensor_value_info(SWITCHES, 9, [count]))
    own = {value.name for value in merged.graph.output}
    merged.graph.output.extend(ValueInfoProto(name=u.outputs[0]) for u in units if u.outputs[0] not in own)
    del merged.graph.value_info[:]
    sorted_model = ONNXModel(merged)
    sorted_model.topological_sort()
    return sorted_model.model, tuple(units)


def _changed(node: Any, outputs: Iterable[str], makers: Mapping[str, Any]) -> bool:
    """Whether the quantized model makes a node's outputs in another way."""
    found = [makers.get(name) for name in outputs]
    first = found[0]
    if first is None or None in found:
        return False  # folded away
    return bool(first.op_type != node.op_type or list(first.input) != list(node.input))
