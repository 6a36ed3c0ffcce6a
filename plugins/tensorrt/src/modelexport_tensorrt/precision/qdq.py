"""Explicit quantization: the QuantizeLinear and DequantizeLinear nodes that tell a network its types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelexport.errors import ConversionError, first_line
from modelexport.toolkit import quiet
from modelexport_onnx import modelfile

if TYPE_CHECKING:
    from modelexport.contract import Array


def upgraded(model: Any, opset: int) -> Any:
    """The model at `opset` of ONNX's own operators at least: float8 scales came with 19, blocks with 21.

    Raises ConversionError where ONNX can't convert it.
    """
    import onnx

    current = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if current >= opset:
        return model
    try:
        with quiet("onnx"):
            made = onnx.version_converter.convert_version(model, opset)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise ConversionError(
            f"the model's opset is {current}, this precision takes {opset}, and ONNX can't convert it: "
            f"{first_line(error)}",
            f"export it with -k onnx.opset={opset}, or at a newer opset where it was made",
        ) from error
    modelfile.keep_origins(model, made)
    return made


class Writer:
    """Adds initializers and nodes to a model, each node in front of all others; nodes are sorted at the end."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._names = {tensor.name for tensor in model.graph.initializer}
        self._made = set[str]()

    def made(self, output: str) -> bool:
        """Whether a node that gives `output` was added before."""
        return output in self._made

    def constant(self, name: str, array: Array, kind: int | None = None) -> str:
        """An initializer of `array`; `kind` is ONNX's number of a type that numpy lacks."""
        from onnx import helper, numpy_helper

        if name not in self._names:
            self._names.add(name)
            made = numpy_helper.from_array(array, name)
            if kind is not None:
                made = helper.make_tensor(name, kind, array.shape, array)
            self.model.graph.initializer.append(made)
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        made = helper.make_node(kind, inputs, [output], name=output, **attributes)
        self.model.graph.node.insert(0, made)
        self._made.add(output)
        return output
