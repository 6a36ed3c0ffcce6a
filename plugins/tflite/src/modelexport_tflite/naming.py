"""Names in the file that a person knows: layers are called as the model's modules, not by where they were traced.

litert-torch names tensors after frames of its own calls. A layer's weight tells which module it came from: its
values, in whatever order; where a normalization was folded into it, its size and its turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from . import files

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


class Layer(NamedTuple):
    """An operator with a constant weight: its kind, as `CONV_2D`, and the weight's values, flat."""

    kind: str
    weight: Any


def layers(model: Any) -> Mapping[str, Layer]:
    """Every layer of the first signature with a floating-point weight, by its name."""
    graph = model.subgraphs[0]
    return {
        _written(graph, graph.operators[number]): Layer(
            files.operator_name(model, graph.operators[number]), values
        )
        for number, values in _weighted(model, graph)
    }


def operators(model: Any) -> dict[str, Any]:
    """Every operator of the first signature, by the name of what it writes."""
    graph = model.subgraphs[0]
    return {_written(graph, op): op for op in graph.operators or () if len(op.outputs)}


def prefix(signature: Any) -> str:
    """What the tensors of a signature are called by, in a file that has several; the first has plain names."""
    return f"{signature.signatureKey.decode()}/"


def _written(graph: Any, operator: Any) -> str:
    name: str = graph.tensors[operator.outputs[0]].name.decode()
    return name


def _weighted(model: Any, graph: Any) -> Iterator[tuple[int, Any]]:
    """(operator's number, weight) of every layer whose weight is constant and in floating point."""
    for number, operator in enumerate(graph.operators or ()):
        position = WEIGHTS.get(files.operator_name(model, operator))
        if position is not None and len(operator.inputs) > position:
            values = files.constant(model, graph.tensors[operator.inputs[position]])
            if values is not None and values.dtype.kind == "f":
                yield number, values


# --------------------------------------------------------------------------------------- renaming


def rename(model: Any, program: Any) -> None:
    """Name what each operator writes: the module's path for layers, the operator and a number for the rest.

    Inputs and outputs keep the names that the signatures have for them, but for those that a layer writes.
    """
    weights = list(_parameters(program))
    for signature in model.signatureDefs:
        graph = model.subgraphs[signature.subgraphIndex]
        _rename_graph(model, graph, signature, _paths(model, graph, weights))
        if graph is not model.subgraphs[0]:  # ai-edge-quantizer wants a name once in the whole file
            for tensor in graph.tensors:
                tensor.name = prefix(signature).encode() + tensor.name


def _rename_graph(model: Any, graph: Any, signature: Any, paths: Mapping[int, str]) -> None:
    layered = {index for number in paths for index in graph.operators[number].outputs}
    fixed = {
        entry.tensorIndex: entry.name.decode()
        for entry in (*signature.inputs, *signature.outputs)
        if entry.tensorIndex not in layered
    }
    used = set(fixed.values())
    for number, operator in enumerate(graph.operators or ()):
        name = paths.get(number, f"{files.operator_name(model, operator).lower()}_{number}")
        for index in operator.outputs:
            if index in fixed:
                continue
            fresh = name if name not in used else f"{name}.{number}.{index}"
            used.add(fresh)
            graph.tensors[index].name = fresh.encode()
    for index, name in fixed.items():
        graph.tensors[index].name = name.encode()


def _parameters(program: Any) -> Iterator[tuple[str, Any]]:
    """(module path, values) of every parameter of two dims or more, in the order the program has them."""
    from modelexport.toolkit import to_numpy

    for name, value in program.state_dict.items():
        if value.is_floating_point() and value.ndim > 1:
            yield name.removesuffix(".weight"), to_numpy(value.float(), name)


def _paths(model: Any, graph: Any, weights: list[tuple[str, Any]]) -> dict[int, str]:
    """Operator's number → path of the module whose weight it has."""
    same: dict[Any, str] = {}
    for path, values in weights:
        same.setdefault(_fingerprint(values), path)
    paths: dict[int, str] = {}
    changed: list[tuple[int, int]] = []
    for number, values in _weighted(model, graph):
        if own := same.get(_fingerprint(values)):
            paths[number] = own
        else:
            changed.append((number, values.size))
    return paths | _by_size(changed, [(path, v.size) for path, v in weights if path not in paths.values()])


def _by_size(changed: list[tuple[int, int]], left: list[tuple[str, int]]) -> dict[int, str]:
    """Operators whose weights the converter changed, each with the next module that has a weight of that size."""
    paths = {}
    for number, size in changed:
        match = next((item for item in left if item[1] == size), None)
        if match is not None:
            left.remove(match)
            paths[number] = match[0]
    return paths


def _fingerprint(values: Any) -> tuple[int, int]:
    """Equal for arrays that hold the same values in any order and shape."""
    import numpy as np

    return values.size, hash(np.sort(np.asarray(values, np.float32), axis=None).tobytes())
