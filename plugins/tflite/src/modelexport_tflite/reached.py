"""What of a SavedModel's graph runs: the nodes that lead to what TensorFlow asks for, and those of functions.

Source: `tensorflow/core/protobuf/meta_graph.proto`, `tensorflow/core/framework/function.proto`, TensorFlow 2.21.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

#: collections that name what is run when a model is loaded
_AT_LOADING = ("saved_model_main_op", "legacy_init_op", "saved_model_init_op")

#: operators whose inputs are those of the function that they call
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")

#: functions of one value are put in each other's place, as suits the device (TensorFlow's implementation_selector)
_INTERCHANGEABLE = "api_implements"


class Reached(NamedTuple):
    """A node that runs, and the tensor that holds the path of the model's own variables there; empty for none."""

    node: Any
    variables: str


def reached(graph: Any) -> Iterator[Reached]:
    """What runs when the model is loaded or called, most of it once."""
    saver = graph.saver_def
    functions = _Functions(graph.graph_def.library)
    for roots, variables in (_asked(graph), ""), ([saver.restore_op_name], saver.filename_tensor_name):
        waiting = [Reached(node, tensor_name(variables)) for node in _leading_to(graph, roots)]
        while waiting:
            one = waiting.pop()
            yield one
            waiting += functions.called_by(one)


class _Functions:
    """The functions of a graph, each given at most twice: with the path of the variables, and without it."""

    def __init__(self, library: Any) -> None:
        self._given: dict[tuple[str, bool], str] = {}
        named = {function.signature.name: function for function in library.function}
        implementing = defaultdict(list)
        for function in library.function:
            implementing[_value(function)].append(function)
        self._by_name: defaultdict[str, list[Any]] = defaultdict(list)
        for name, function in named.items():
            self._by_name[name] += implementing[_value(function)]
        for gradient in library.gradient:
            if gradient.gradient_func in named:
                self._by_name[gradient.function_name].append(named[gradient.gradient_func])

    def called_by(self, caller: Reached) -> Iterator[Reached]:
        """What runs in the functions that the node may call; an operator of a function's own name calls it."""
        node = caller.node
        attributes = node.attr.values()
        listed = (function.name for value in attributes for function in value.list.func)
        for name in (node.op, *(value.func.name for value in attributes), *listed):
            for function in self._by_name.get(name, ()):
                passed = _passed(caller, function) if node.op in (*_CALLS, name) else ""
                yield from self._body(function, passed)

    def _body(self, function: Any, variables: str) -> Iterator[Reached]:
        name = function.signature.name
        if self._given.get((name, True), variables) != variables:
            variables = ""
        if (name, bool(variables)) not in self._given:
            self._given[name, bool(variables)] = variables
            yield from (Reached(node, variables) for node in function.node_def)


def _value(function: Any) -> tuple[str, bytes]:
    """What the function computes, by a name that it shares with those that may take its place; else its own."""
    shared = function.attr.get(_INTERCHANGEABLE)
    return ("", shared.s) if shared is not None else (function.signature.name, b"")


def _passed(caller: Reached, function: Any) -> str:
    """The argument that gets the path of the variables; none where arguments and inputs may not be in line."""
    arguments = function.signature.input_arg
    if not caller.variables or any(argument.number_attr or argument.type_list_attr for argument in arguments):
        return ""
    inputs = [tensor_name(name) for name in caller.node.input]
    pairs = zip(arguments, inputs, strict=False)  # what comes after the inputs only says what runs first
    return next((str(argument.name) for argument, name in pairs if name == caller.variables), "")


def _leading_to(graph: Any, roots: Iterable[str]) -> Iterator[Any]:
    """The nodes of the graph itself that have to run for these."""
    nodes = {node.name: node for node in graph.graph_def.node}  # taken out as they are reached
    waiting = list(roots)
    while waiting:
        node = nodes.pop(_node_name(waiting.pop()), None)
        if node is not None:
            yield node
            waiting += node.input


def _asked(graph: Any) -> list[str]:
    """What TensorFlow asks for by name, but for the variables."""
    names: list[str] = []
    for signature in graph.signature_def.values():
        tensors = (*signature.inputs.values(), *signature.outputs.values())
        names += [name for tensor in tensors for name in (tensor.name, *_parts(tensor))]
    for key in _AT_LOADING:
        names += graph.collection_def[key].node_list.value if key in graph.collection_def else ()
    return names


def _parts(tensor: Any) -> Iterator[str]:
    """The tensors that a sparse or a composite one is made of."""
    sparse = tensor.coo_sparse
    yield from (sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name)
    for component in tensor.composite_tensor.components:
        yield component.name


def _node_name(tensor: str) -> str:
    return tensor.lstrip("^").partition(":")[0]


def tensor_name(text: str) -> str:
    """A tensor's name in its short form: a node's first output goes by the name of the node."""
    return text.removesuffix(":0")
