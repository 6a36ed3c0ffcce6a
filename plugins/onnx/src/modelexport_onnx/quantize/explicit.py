"""Explicit quantization: the QuantizeLinear and DequantizeLinear nodes that tell a compiler its types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import graph

if TYPE_CHECKING:
    from modelexport.contract import Array


class Writer:
    """Adds initializers and nodes to a model, each node in front of all others; `finish` puts them in order."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._names = {tensor.name for tensor in model.graph.initializer}
        self._before = set(self._names)
        self._outputs = set[str]()

    def has(self, output: str) -> bool:
        """Whether a node that gives `output` was added before."""
        return output in self._outputs

    def constant(self, name: str, array: Array, element: int | None = None) -> str:
        """The name of an initializer with the values of `array`; `element` is ONNX's number of a type that numpy
        lacks."""
        from onnx import helper, numpy_helper

        if name not in self._names:
            self._names.add(name)
            tensor = numpy_helper.from_array(array, name)
            if element is not None:
                tensor = helper.make_tensor(name, element, array.shape, array)
            self.model.graph.initializer.append(tensor)
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """The output of a new node, which bears its name."""
        from onnx import helper

        self.model.graph.node.insert(0, helper.make_node(kind, inputs, [output], name=output, **attributes))
        self._outputs.add(output)
        return output

    def finish(self) -> Any:
        """The model, without the weights that nothing reads any more, its nodes in order."""
        graph.drop_unused(self.model, self._before)
        graph.sort_nodes(self.model)
        return self.model
