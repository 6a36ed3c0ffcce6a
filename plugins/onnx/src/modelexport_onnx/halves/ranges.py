"""The types of a float32 model's tensors, and how large their values get on real cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from modelexport.toolkit import GoldenCase, steps

from .. import session


def tensor_types(model: Any) -> dict[str, str]:
    """The type of every tensor of the main graph as ONNX Runtime names it: `tensor(float)`."""
    from onnx import TensorProto, ValueInfoProto

    names = [name for node in model.graph.node for name in node.output if name]
    with _probed(model) as graph:
        graph.output.extend(ValueInfoProto(name=name) for name in names)
        runtime = session.open_model(model, "none")
    types = {value.name: value.type for value in [*runtime.get_inputs(), *runtime.get_outputs()]}
    floats = {TensorProto.FLOAT: "float", TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
    return types | {t.name: f"tensor({floats.get(t.data_type, 'other')})" for t in model.graph.initializer}


def is_float(types: Mapping[str, str], name: str) -> bool:
    """Whether a tensor is float32."""
    return types.get(name) == "tensor(float)"


def peaks(model: Any, types: Mapping[str, str], cases: Sequence[GoldenCase]) -> dict[str, float]:
    """The largest finite magnitude of every float32 tensor over all cases.

    The graph itself reduces each tensor to one number, so memory stays that of a normal run.
    """
    import numpy as np
    from onnx import numpy_helper

    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if is_float(types, t.name)}
    largest = {name: _largest(array) for name, array in weights.items()}
    names = [name for node in model.graph.node for name in node.output if is_float(types, name)]
    with _probed(model) as graph:
        _reduce(graph, names)
        runtime = session.open_model(model, "none")
    for case in steps(cases, "measure the ranges of tensors"):
        for name, array in case.inputs.items():
            if is_float(types, name):
                largest[name] = max(largest.get(name, 0.0), _largest(array))
        for name, value in zip(names, runtime.run(None, dict(case.inputs)) if names else (), strict=True):
            largest[name] = float(np.maximum(largest.get(name, 0.0), value))
    return largest


def _largest(array: Any) -> float:
    import numpy as np

    return float(np.abs(array).max(initial=0.0, where=np.isfinite(array)))


def _reduce(graph: Any, names: Sequence[str]) -> None:
    """Make the largest finite magnitude of each of `names` the graph's outputs."""
    import numpy as np
    from onnx import ValueInfoProto, helper, numpy_helper

    for name, array in {"inf": np.inf, "zero": 0.0, "zeros": [0.0]}.items():
        graph.initializer.append(numpy_helper.from_array(np.array(array, np.float32), f"mx_{name}"))
    graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), "mx_flat"))
    for index, name in enumerate(names):
        size, finite, kept, flat, padded, peak = (f"mx_{index}_{part}" for part in range(6))
        graph.node.extend(
            [
                helper.make_node("Abs", [name], [size]),
                helper.make_node("Less", [size, "mx_inf"], [finite]),
                helper.make_node("Where", [finite, size, "mx_zero"], [kept]),
                helper.make_node("Reshape", [kept, "mx_flat"], [flat]),
                helper.make_node("Concat", [flat, "mx_zeros"], [padded], axis=0),  # none has no maximum
                helper.make_node("ReduceMax", [padded], [peak], keepdims=0),
            ]
        )
        graph.output.append(ValueInfoProto(name=peak))


@contextmanager
def _probed(model: Any) -> Iterator[Any]:
    """A model's graph with no outputs, to add some to; it gets back what it had. No copy: models may be large."""
    graph = model.graph
    nodes, tensors = len(graph.node), len(graph.initializer)
    outputs = [type(value).FromString(value.SerializeToString()) for value in graph.output]
    del graph.output[:]
    try:
        yield graph
    finally:
        del graph.node[nodes:], graph.initializer[tensors:], graph.output[:]
        graph.output.extend(outputs)
