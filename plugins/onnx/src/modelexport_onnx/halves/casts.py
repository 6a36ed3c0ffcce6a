"""The graph rewritten: constants and masks made ready, then tensors in half precision and casts between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import graph
from ..rounding import Half, element_type, half_name
from .places import LARGEST, Ports
from .ranges import is_float

#: constants below this say "never"; nothing is computed with them
_NEVER = -1e30

#: what may lie between such a constant and the softmax that makes zero of it
_MASKING = {"Where", "Mul", "Add", "Expand", "Unsqueeze", "Squeeze", "Reshape", "Transpose", "Slice", "Cast"}
_SOFTMAX = {"Softmax", "Attention", "MultiHeadAttention"}


# --------------------------------------------------------------------------------------- constants


def lift_constants(model: Any) -> None:
    """Make initializers of float constants: one kind of weight instead of three."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    kept = []
    for node in model.graph.node:
        value = {attribute.name: attribute for attribute in node.attribute} if node.op_type == "Constant" else {}
        if "value" in value and value["value"].t.data_type == TensorProto.FLOAT:
            tensor = model.graph.initializer.add()
            tensor.CopyFrom(value["value"].t)
            tensor.name = node.output[0]
        elif "value_float" in value or "value_floats" in value:
            numbers = value["value_float"].f if "value_float" in value else list(value["value_floats"].floats)
            model.graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.float32), node.output[0]))
        else:
            kept.append(node)
    _replace_nodes(model, kept)


def soften_masks(model: Any, dtype: Half) -> None:
    """Bring constants such as -3.4e38 into the dtype's range where all that becomes of them is a softmax's zero.

    To half its lowest number, so that a score added to it does not overflow either.
    """
    import numpy as np
    from onnx import TensorProto, numpy_helper

    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in [*node.input, *graph.reads_inside(node)]:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or max(tensor.dims, default=1) > 1:
            continue
        value = numpy_helper.to_array(tensor)
        if (value < _NEVER).all() and np.isfinite(value).all() and _only_masks(tensor.name, readers, outputs):
            lowest = np.full_like(value, -LARGEST[dtype] / 2)
            tensor.CopyFrom(numpy_helper.from_array(lowest, tensor.name))


def _only_masks(name: str, readers: Mapping[str, Sequence[Any]], outputs: set[str]) -> bool:
    """Whether every way from the tensor leads to a softmax, through nothing but what masks are made with."""
    pending, seen = [name], {name}
    while pending:
        current = pending.pop()
        if current in outputs or not readers.get(current):
            return False
        for node in readers[current]:
            if node.op_type in _SOFTMAX:
                continue
            if node.op_type not in _MASKING:
                return False
            pending += [out for out in node.output if out not in seen]
            seen.update(node.output)
    return True


# --------------------------------------------------------------------------------------- casts


def rewrite(model: Any, dtype: Half, types: Mapping[str, str], ports: Ports) -> None:
    """Make `ports` half, in place. A tensor keeps its name in float32, its half gets another."""
    writer = _Writer(model, dtype, types)
    for node in list(model.graph.node):
        writer.add(node, *ports.get(node.name, (set(), set())))
    for value in model.graph.output:
        writer.in_float(value.name)
    writer.finish()


@dataclass
class _Writer:
    """Writes nodes in their order, with a Cast in front of the first that reads a tensor in its other form.

    `weights` are the float32 initializers; `halves` has the names of tensors in half precision; `floats` those
    that are there in float32.
    """

    model: Any
    dtype: Half
    types: Mapping[str, str]
    weights: dict[str, Any] = field(init=False)
    taken: set[str] = field(init=False)
    floats: set[str] = field(init=False)
    halves: dict[str, str] = field(default_factory=dict)
    nodes: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        tensors = self.model.graph.initializer
        self.weights = {tensor.name: tensor for tensor in tensors if is_float(self.types, tensor.name)}
        self.taken = {*self.types, *self.weights}
        self.floats = {name for name in self.types if is_float(self.types, name)} - set(self.weights)

    def add(self, node: Any, inputs: set[int], outputs: set[int]) -> None:
        """Write a node whose inputs and outputs at these places are half."""
        for name in graph.reads_inside(node):
            self.in_float(name)
        for place, name in enumerate(node.input):
            if place in inputs:
                node.input[place] = self.in_half(name)
            else:
                self.in_float(name)
        for place in outputs:
            name = node.output[place]
            self.floats.discard(name)
            node.output[place] = self._half_name(name)
        if outputs:
            _retype(node, self.dtype)
        self.nodes.append(node)

    def in_half(self, name: str) -> str:
        """The name of the tensor in half precision, which is made where it isn't there yet."""
        from onnx import helper

        if name not in self.halves:
            chosen = self._half_name(name)
            if name in self.weights:
                tensor = _half_tensor(self.weights[name], chosen, self.dtype)
                self.model.graph.initializer.append(tensor)
            else:
                code = element_type(self.dtype)
                self.nodes.append(helper.make_node("Cast", [name], [chosen], name=f"{chosen}_cast", to=code))
        return self.halves[name]

    def in_float(self, name: str) -> None:
        """Make the tensor in float32 where it is there in half precision only."""
        from onnx import TensorProto, helper

        if name in self.weights:
            self.floats.add(name)
        elif name in self.halves and name not in self.floats:
            self.floats.add(name)
            half = self.halves[name]
            self.nodes.append(helper.make_node("Cast", [half], [name], name=f"{name}_cast", to=TensorProto.FLOAT))

    def finish(self) -> None:
        """Put the nodes into the model, without the weights that nothing reads in float32 any more."""
        _replace_nodes(self.model, self.nodes)
        tensors = self.model.graph.initializer
        for index in reversed(range(len(tensors))):
            if tensors[index].name in self.weights and tensors[index].name not in self.floats:
                del tensors[index]
        del self.model.graph.value_info[:]

    def _half_name(self, name: str) -> str:
        chosen = half_name(name, self.dtype)
        while chosen in self.taken:
            chosen += "_"
        self.taken.add(chosen)
        self.halves[name] = chosen
        return chosen


def _retype(node: Any, dtype: Half) -> None:
    """Change the dtype that Cast and ConstantOfShape have in an attribute."""
    from onnx import TensorProto, helper

    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to":
            attribute.i = element_type(dtype)
        if node.op_type == "ConstantOfShape" and attribute.name == "value":
            attribute.t.CopyFrom(_half_tensor(attribute.t, attribute.t.name, dtype))
    if node.op_type == "ConstantOfShape" and not node.attribute:
        zero = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.0])
        node.attribute.append(helper.make_attribute("value", _half_tensor(zero, "value", dtype)))


def _half_tensor(tensor: Any, name: str, dtype: Half) -> Any:
    import ml_dtypes
    import numpy as np
    from onnx import numpy_helper

    kind = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(kind), name)


def _replace_nodes(model: Any, nodes: Sequence[Any]) -> None:
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
