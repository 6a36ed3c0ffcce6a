"""Makes a file that was converted at one batch size take any.

The converter writes the batch into constants: the shapes that tensors are reshaped to, the sizes of slices, and
constants it broadcast. Where one number of a shape is a multiple of the batch converted at, it becomes -1, "what
is left"; where a constant repeats itself along the batch, one copy stays. That a number is the batch is a guess,
made likely by the size that `sizes.plan` chooses; `export` compares the result with the program at other sizes,
and drops it where it differs.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from . import files

#: operator → the input that holds a shape of which one number may be -1
_SHAPES = {"RESHAPE": 1, "SLICE": 2}

#: operators that broadcast a constant along an axis where it has one
_BROADCAST = {"ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SELECT_V2", "FULLY_CONNECTED", "POW",
              "SQUARED_DIFFERENCE", "GREATER", "LESS", "EQUAL", "LOGICAL_AND", "LOGICAL_OR"}  # fmt: skip


def free(model: Any, traced: int, smallest: int) -> None:
    """Change `model`, converted at a batch of `traced`, into one whose inputs can be resized.

    Without resizing, it takes a batch of `smallest`.
    """
    for graph in model.subgraphs:
        for operator in graph.operators or ():
            _free_operator(model, graph, operator, traced)
        for tensor in graph.tensors:
            if model.buffers[tensor.buffer].data is None:
                _reshape(tensor, traced, smallest)


def _free_operator(model: Any, graph: Any, operator: Any, traced: int) -> None:
    name = files.operator_name(model, operator)
    if name in _SHAPES:
        _open_shape(model, graph, operator, _SHAPES[name], traced)
    elif name == "BROADCAST_TO":
        _multiply(model, graph, operator, traced)
    elif name in _BROADCAST:
        for index in operator.inputs:
            _shrink(model, graph.tensors[index], traced)


def _open_shape(model: Any, graph: Any, operator: Any, position: int, traced: int) -> None:
    """Write -1 for the batch into the constant shape that the operator has as its input `position`."""
    import numpy as np

    if len(operator.inputs) <= position:
        return
    tensor = graph.tensors[operator.inputs[position]]
    values = files.constant(model, tensor)
    if values is None or (axis := _axis(values, traced)) is None:
        return
    opened = values.copy()
    opened[axis] = -1
    _replace(model, tensor, opened)
    if operator.builtinOptions is not None and hasattr(operator.builtinOptions, "newShape"):
        operator.builtinOptions.newShape = opened.astype(np.int32)


def _multiply(model: Any, graph: Any, operator: Any, traced: int) -> None:
    """Put a product with ones in place of a broadcast: its shape can't hold a -1, and a product broadcasts too."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    source, shape = (graph.tensors[index] for index in operator.inputs[:2])
    values = files.constant(model, shape)
    kind = files.dtype(source)
    if values is None or kind not in ("float32", "int32") or (axis := _axis(values, traced)) is None:
        return
    ones = schema.TensorT()
    ones.name, ones.type, ones.buffer = source.name + b".ones", source.type, source.buffer
    ones.shape = np.where(np.arange(len(values)) == axis, values // traced, values).astype(np.int32)
    _replace(model, ones, np.ones(ones.shape, kind))
    graph.tensors.append(ones)
    operator.inputs = np.array([operator.inputs[0], len(graph.tensors) - 1], np.int32)
    operator.opcodeIndex = files.operator_code(model, "MUL")
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.MulOptions, schema.MulOptionsT()


def _axis(shape: Any, traced: int) -> int | None:
    """The one axis whose size is a multiple of the batch; None where there is none, or several."""
    axes = [axis for axis, size in enumerate(shape) if size > 0 and size % traced == 0]
    return axes[0] if len(axes) == 1 and not (shape < 0).any() else None


def _shrink(model: Any, tensor: Any, traced: int) -> None:
    """Keep one copy of a constant that repeats itself along an axis of the batch's size."""
    import numpy as np

    values = files.constant(model, tensor)
    if values is None or tensor.shape is None or traced not in list(tensor.shape):
        return
    array = values.reshape(tensor.shape)
    axis = list(tensor.shape).index(traced)
    one = np.take(array, [0], axis)
    if (array == one).all():
        tensor.shape = np.array(one.shape, np.int32)
        _replace(model, tensor, one)


def _replace(model: Any, tensor: Any, values: Any) -> None:
    """Give a tensor a buffer of its own: others may share the one it had."""
    import numpy as np

    buffer = copy(model.buffers[tensor.buffer])
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.buffer = len(model.buffers) - 1


def _reshape(tensor: Any, traced: int, smallest: int) -> None:
    """Declare a computed tensor's batch as open, and `smallest` until somebody resizes it."""
    import numpy as np

    if tensor.shape is None or not len(tensor.shape):
        return
    shape = np.asarray(tensor.shape)
    batched = (shape > 0) & (shape % traced == 0)
    if batched.any():
        tensor.shape = np.where(batched, shape // traced * smallest, shape).astype(np.int32)
        tensor.shapeSignature = np.where(batched, -1, shape).astype(np.int32)
