"""Names in the file that a person knows: layers are called as the model's modules, not by where they were traced.

litert-torch names tensors after frames of its own calls. A layer's weight tells which module it came from: its
values, in whatever order; where a normalization was folded into it, its size and its turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from . import flatbuffer

#: operators that are layers of their own, by the input that holds the weight
WEIGHTS = {
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "TRANSPOSE_CONV": 1,
    "FULLY_CONNECTED": 1,
    "BATCH_MATMUL": 1,
    "EMBEDDING_LOOKUP": 1,
    "GATHER": 0,
}


def rename(model: Any, program: Any) -> None:
    """Name what each operator writes: the module's path for layers, the operator and a number for the rest."""
    weights = list(_weights(program))
    for graph, signature in zip(model.subgraphs, model.signatureDefs, strict=True):
        paths = _layers(model, graph, weights)
        layered = {index for number in paths for index in graph.operators[number].outputs}
        fixed = {
            entry.tensorIndex: entry.name.decode()
            for entry in (*signature.inputs, *signature.outputs)
            if entry.tensorIndex not in layered
        }
        used = set(fixed.values())
        for number, operator in enumerate(graph.operators or ()):
            kind = flatbuffer.operator_name(model, operator).lower()
            name = paths.get(number, f"{kind}_{number}")
            for index in operator.outputs:
                if index in fixed:
                    continue
                fresh = name if name not in used else f"{name}.{number}.{index}"
                used.add(fresh)
                graph.tensors[index].name = fresh.encode()
        for index, name in fixed.items():
            graph.tensors[index].name = name.encode()
        if graph is not model.subgraphs[0]:  # ai-edge-quantizer wants a name once in the whole file
            for tensor in graph.tensors:
                tensor.name = prefix(signature).encode() + tensor.name


def prefix(signature: Any) -> str:
    """What the tensors of a signature are called by, in a file that has several; the first has plain names."""
    return f"{signature.signatureKey.decode()}/"


def _weights(program: Any) -> Iterator[tuple[str, Any]]:
    """(module path, values) of every parameter of two dims or more, in the order the program has them."""
    from modelexport.toolkit import to_numpy

    for name, value in program.state_dict.items():
        if value.is_floating_point() and value.ndim > 1:
            yield name.removesuffix(".weight"), to_numpy(value.float(), name)


def _layers(model: Any, graph: Any, weights: list[tuple[str, Any]]) -> dict[int, str]:
    """Operator's number → module path."""
    same: dict[Any, str] = {}
    for path, values in weights:
        same.setdefault(_print(values), path)
    found: dict[int, str] = {}
    changed: list[tuple[int, int]] = []
    for number, values in _constants(model, graph):
        if own := same.get(_print(values)):
            found[number] = own
        else:
            changed.append((number, values.size))
    left = [(path, values.size) for path, values in weights if path not in found.values()]
    for number, size in changed:
        match = next((item for item in left if item[1] == size), None)
        if match is not None:
            left.remove(match)
            found[number] = match[0]
    return found


def _constants(model: Any, graph: Any) -> Iterator[tuple[int, Any]]:
    """(operator's number, values) of every layer with a constant weight."""
    for number, operator in enumerate(graph.operators or ()):
        position = WEIGHTS.get(flatbuffer.operator_name(model, operator))
        if position is not None and len(operator.inputs) > position:
            values = flatbuffer.constant(model, graph.tensors[operator.inputs[position]])
            if values is not None and values.dtype.kind == "f":
                yield number, values


def _print(values: Any) -> tuple[int, int]:
    """Equal for arrays that hold the same values in any order and shape."""
    import numpy as np

    return values.size, hash(np.sort(np.asarray(values, np.float32), axis=None).tobytes())


def layers(model: Any) -> Mapping[str, tuple[str, Any]]:
    """Layer's name → (operator, weight) of all layers of the first signature, as float32."""
    graph = model.subgraphs[0]
    return {
        graph.tensors[graph.operators[number].outputs[0]].name.decode(): (
            flatbuffer.operator_name(model, graph.operators[number]),
            values,
        )
        for number, values in _constants(model, graph)
    }
