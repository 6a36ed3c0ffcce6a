"""A model in half precision as a device computes it that has the dtype, on one that has not.

ONNX Runtime's CPU computes nearly all operators of float16 in float32, leaves the roundings between them out
(1.31), and has no kernels for bfloat16: as it is, a model shows there what became of its weights, and no more. So
the model is computed in float32, and every tensor that is in half precision is rounded.
"""

from __future__ import annotations

from typing import Any, Literal

Half = Literal["float16", "bfloat16"]


def half_name(name: str, dtype: Half) -> str:
    """What the form of the tensor `name` in half precision is called."""
    return f"{name}_{dtype}"


def is_half(name: str, dtype: Half) -> bool:
    """Whether a tensor has a name that `half_name` gives, or that with `_` behind it where it was taken."""
    return name.rstrip("_").endswith(half_name("", dtype))


def element_type(dtype: Half) -> int:
    """ONNX's number of the dtype."""
    from onnx import TensorProto

    return int({"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[dtype])


def simulated(model: Any, dtype: Half) -> Any:
    """A copy of a model that was cast to `dtype` by this package, in float32 with every half rounded."""
    from onnx import TensorProto, helper

    code, copied = element_type(dtype), type(model)()
    copied.CopyFrom(model)
    for tensor in copied.graph.initializer:
        _widen(tensor, code)
    nodes: list[Any] = []
    for node in copied.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == code:
                attribute.i = TensorProto.FLOAT
            elif attribute.HasField("t"):
                _widen(attribute.t, code)
        nodes.append(node)
        for place, name in enumerate(node.output):
            if is_half(name, dtype):
                exact, rounded = f"{name}_exact", f"{name}_rounded"
                node.output[place] = exact
                nodes.append(helper.make_node("Cast", [exact], [rounded], to=code))
                nodes.append(helper.make_node("Cast", [rounded], [name], to=TensorProto.FLOAT))
    del copied.graph.node[:]
    copied.graph.node.extend(nodes)
    return copied


def _widen(tensor: Any, code: int) -> None:
    import numpy as np
    from onnx import numpy_helper

    if tensor.data_type == code:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
