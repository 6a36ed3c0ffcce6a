"""One model that is floating-point and quantized at once: each layer has a switch.

Every layer that quantization changed is there twice, and a boolean input says which of the two the next layer
sees. So the effect of any set of quantized layers is one call away, without building and loading a model for
each: what a search for the layers that must stay in float takes, and what shows the sensitivity of each.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelexport.contract import Session
from modelexport.toolkit import steps

from .. import contents, details, graph, session

if TYPE_CHECKING:
    from modelexport.contract import Array, Arrays, Artifact

SWITCHES = "mx_quantized"

#: samples on which the sensitivity of each layer is measured, at most, and how many of them for its own output
SAMPLES, OWN = 8, 2

#: calls that all layers' sensitivities may take together: a graph of many layers is measured on fewer samples
CALLS = 1000


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
        # Optimized as little as this, weights are dequantized once.
        self._runtime = session.open_model(merged, optimization="basic", config=details.AS_WRITTEN)

    def session(self, left: Collection[str]) -> Session:
        """A Session with every unit quantized but those named."""
        switches = self._switches(left)

        def call(inputs: Mapping[str, Array]) -> dict[str, Array]:
            values = self._runtime.run(self._outputs, {**inputs, SWITCHES: switches})
            return dict(zip(self._outputs, values, strict=True))

        return Session(call, self._artifact.inputs, self._artifact.outputs)

    def _switches(self, left: Collection[str]) -> Array:
        import numpy as np

        return np.array([unit.name not in left for unit in self.units] or [False], dtype=bool)

    def sensitivities(self, samples: Sequence[Arrays]) -> dict[str, Sensitivity]:
        """Each unit quantized alone, by its name."""
        import numpy as np

        everything = {unit.name for unit in self.units}
        power = {unit.name: np.zeros(2) for unit in self.units}
        outputs = {unit.name: {name: np.zeros(2) for name in self._outputs} for unit in self.units}
        count = max(OWN, min(SAMPLES, CALLS // max(1, len(self.units))))
        for index, sample in enumerate(steps(samples[:count], "measure what each layer costs by itself")):
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
    from onnx import ValueInfoProto, helper

    merger = _Merger(float_model, graph.copy(quantized))
    for node in float_model.graph.node:
        merger.add(node)
    merged = merger.model
    merged.graph.input.append(helper.make_tensor_value_info(SWITCHES, 9, [max(1, len(merger.units))]))
    own = {value.name for value in merged.graph.output}
    merged.graph.output.extend(ValueInfoProto(name=u.outputs[0]) for u in merger.units if u.outputs[0] not in own)
    del merged.graph.value_info[:]
    graph.sort_nodes(merged)
    return merged, tuple(merger.units)


class _Merger:
    """Adds the nodes of the floating-point model, one after another, to a copy of the quantized one."""

    def __init__(self, float_model: Any, model: Any) -> None:
        self.model, self.units = model, list[Unit]()
        self._floats = {node.name: node for node in float_model.graph.node}
        values = (*float_model.graph.value_info, *float_model.graph.output)
        self._computes = {value.name for value in values if value.type.tensor_type.elem_type == 1}
        self._float_makers = {name: node for node in float_model.graph.node for name in node.output}
        self._makers = {name: node for node in model.graph.node for name in node.output}
        self._quantizers = {n.input[0]: n for n in model.graph.node if n.op_type == "QuantizeLinear"}
        self._narrow = contents.stored_narrow(model) - contents.stored_narrow(float_model)
        present = {tensor.name: tensor for tensor in model.graph.initializer}
        # A dequantized bias bears the name of the bias itself, and a transposed weight that of the weight.
        self._renamed = {
            t.name: f"{SWITCHES}_{t.name}"
            for t in float_model.graph.initializer
            if t.name in self._makers or not _alike(t, present.get(t.name, t))
        }
        for tensor in float_model.graph.initializer:
            if tensor.name not in present or tensor.name in self._renamed:
                added = model.graph.initializer.add()
                added.CopyFrom(tensor)
                added.name = self._renamed.get(tensor.name, tensor.name)

    def add(self, node: Any) -> None:
        """Both forms of a node and their switch, where there are two."""
        import numpy as np
        from onnx import helper, numpy_helper

        outputs = tuple(name for name in node.output if name)
        maker = self._maker(node, outputs)
        if maker is None or not self._computes.issuperset(outputs):
            return
        # A Conv whose activation its output range makes superfluous gives that activation's output.
        layer = self._floats.get(maker.name, node)
        number = f"{SWITCHES}_{len(self.units)}"
        self.units.append(Unit(layer.name, layer.op_type, outputs))
        index = numpy_helper.from_array(np.array(len(self.units) - 1, np.int64), number)
        self.model.graph.initializer.append(index)
        self._append(helper.make_node("Gather", [SWITCHES, number], [f"{number}_on"], name=number))
        twin = self._twin(node, f"{number}_float")
        for place, name in enumerate(node.output):
            if name:
                twin.output[place], other = (f"{number}_{form}_{place}" for form in ("float", "int"))
                made_by = self._makers[name]
                made_by.output[list(made_by.output).index(name)] = other
                inputs = [f"{number}_on", self._rounded(name, other), twin.output[place]]
                self._append(helper.make_node("Where", inputs, [name], name=f"{number}_{place}"))

    def _rounded(self, name: str, other: str) -> str:
        """The tensor `other` through the 8 bits that `name` goes through, if it does: that is where an activation
        was clipped whose operator is gone."""
        from onnx import helper

        quantize = self._quantizers.get(name)
        if quantize is None:
            return other
        scale = list(quantize.input[1:])
        axis = {a.name: a.i for a in quantize.attribute if a.name == "axis"}
        forms = [("QuantizeLinear", other, f"{other}_q"), ("DequantizeLinear", f"{other}_q", f"{other}_dq")]
        for kind, taken, output in forms:
            self._append(
                helper.make_node(kind, [taken, *scale], [output], name=output, domain=quantize.domain, **axis)
            )
        return forms[-1][2]

    def _maker(self, node: Any, outputs: Sequence[str]) -> Any | None:
        """What makes a node's outputs in the quantized model, in another way; None where they are not made so.

        A node that is merely written in other operators, as a Gemm that is left as MatMul and Add, is not.
        """
        makers = [self._makers.get(name) for name in outputs]
        first = makers[0]
        if first is None or None in makers:
            return None
        other = first.op_type != node.op_type or list(first.input) != list(node.input)
        return first if other and self._narrows(first) else None

    def _narrows(self, maker: Any) -> bool:
        """Whether `maker`, or what stands before it up to the next tensor of the floating-point model, is in fewer
        bits."""
        waiting, seen = [maker], set[str]()
        while waiting:
            node = waiting.pop()
            if node.op_type in contents.QUANTIZED or self._narrow.intersection(node.input):
                return True
            new = {name for name in node.input if name in self._makers and name not in self._float_makers} - seen
            seen |= new
            waiting += [self._makers[name] for name in new]
        return False

    def _twin(self, node: Any, name: str) -> Any:
        """The floating-point form of a node, and of those before it whose outputs the quantized model lacks."""
        for tensor in node.input:
            before = self._float_makers.get(tensor)
            if before is not None and tensor not in self._makers:
                self._makers[tensor] = self._twin(before, f"{name}_before")
        twin = self._append(node)
        twin.name = name
        for index, tensor in enumerate(twin.input):
            twin.input[index] = self._renamed.get(tensor, tensor)
        return twin

    def _append(self, node: Any) -> Any:
        added = self.model.graph.node.add()
        added.CopyFrom(node)
        return added


def _alike(tensor: Any, other: Any) -> bool:
    import numpy as np
    from onnx import numpy_helper

    return tensor is other or np.array_equal(numpy_helper.to_array(tensor), numpy_helper.to_array(other))


def ranking(sensitivities: Mapping[str, Sensitivity]) -> list[str]:
    """The most sensitive first: by the model's outputs, and where these are alike, by the layer's own."""
    return sorted(sensitivities, key=lambda name: (sensitivities[name].output, sensitivities[name].own))
