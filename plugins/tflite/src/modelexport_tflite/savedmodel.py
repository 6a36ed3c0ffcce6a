"""A SavedModel made by somebody else: refused where its graph does more than compute.

TensorFlow runs whatever operators a graph has, those that write files and call Python as well, when the model is
loaded (its initializer, and what restores its variables) and whenever it is called.

Source: `tensorflow/core/protobuf/{saved_model,meta_graph}.proto`, TensorFlow 2.21.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from modelexport.errors import SourceError, UnsafeFileError, first_line
from modelexport.toolkit import open_regular

#: operators that touch files, processes, Python or other machines, by what their names say
_TOUCHING = re.compile(
    r"File|PyFunc|Save|Checkpoint|Dataset|Reader|Print|Debug|Summary|Event|Rpc|Remote|Send|Recv"
)

#: the most bytes of a graph: a message of protocol buffers has no more
_LIMIT = 2 << 30

#: collections that name what is run when a model is loaded
_AT_LOADING = ("saved_model_main_op", "legacy_init_op", "saved_model_init_op")


def check(folder: Path) -> None:
    """Raise UnsafeFileError where loading or calling the SavedModel would touch files, processes or Python.

    Raises SourceError for one that can't be read.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    file, saved = folder / "saved_model.pb", saved_model_pb2.SavedModel()
    try:
        with open_regular(file, _LIMIT, SourceError) as stream:
            saved.ParseFromString(stream.read())
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(
            f"{folder} is no SavedModel, or a damaged one: {first_line(error)}", "save it again"
        ) from error
    for graph in saved.meta_graphs:
        touching = sorted({op for op in _operators(graph) if _TOUCHING.search(op)})
        if touching:
            raise UnsafeFileError(
                f"{folder} runs operators that touch files or code: {', '.join(touching[:5])}",
                "take them out of the model, or give --allow-pickle if you trust who made it",
            )


def _operators(graph: Any) -> Iterator[str]:
    """The operators that run when the model is loaded or called, those of its functions as well."""
    nodes = {node.name: node for node in graph.graph_def.node}  # taken out as they are reached
    functions = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
    waiting = [nodes.pop(name) for name in _roots(graph) if name in nodes]
    while waiting:
        node = waiting.pop()
        yield node.op
        waiting.extend(nodes.pop(name) for name in map(_node_name, node.input) if name in nodes)
        for name in _called(node):
            waiting.extend(functions.pop(name, ()))


def _roots(graph: Any) -> Iterable[str]:
    """The nodes that TensorFlow asks for by name."""
    names = [graph.saver_def.restore_op_name]
    for signature in graph.signature_def.values():
        tensors = (*signature.inputs.values(), *signature.outputs.values())
        names += [name for tensor in tensors for name in (tensor.name, *_parts(tensor))]
    for key in _AT_LOADING:
        names += graph.collection_def[key].node_list.value if key in graph.collection_def else ()
    return [_node_name(name) for name in names]


def _parts(tensor: Any) -> Iterator[str]:
    """The tensors that a sparse or a composite one is made of."""
    sparse = tensor.coo_sparse
    yield from (sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name)
    for component in tensor.composite_tensor.components:
        yield component.name


def _node_name(tensor: str) -> str:
    return tensor.lstrip("^").partition(":")[0]


def _called(node: Any) -> Iterator[str]:
    """The functions that a node may call; an operator of a function's own name is a call of it."""
    yield node.op
    for value in node.attr.values():
        yield value.func.name
        yield from (function.name for function in value.list.func)
