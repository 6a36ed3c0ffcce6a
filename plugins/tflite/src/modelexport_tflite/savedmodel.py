"""A SavedModel made by somebody else: refused where its graph does more than compute.

TensorFlow runs whatever operators a graph has, those that write files and call Python as well, when the model is
loaded (its initializer, and what restores its variables) and whenever it is called. Which operators take the name
of a file is told by TensorFlow's own definitions: such a name is a text, as an attribute or as an input.

Source: `tensorflow/core/protobuf/saved_model.proto`, `tensorflow/core/framework/op_def.proto`, TensorFlow 2.21.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from modelexport.errors import SourceError, UnsafeFileError, first_line
from modelexport.toolkit import open_regular

from .reached import Reached, reached, tensor_name

#: operators that touch files, processes, Python or other machines, by what their names say
_TOUCHING = re.compile(
    r"File|PyFunc|Save|Checkpoint|Dataset|Reader|Print|Debug|Summary|Event|Rpc|Remote|Send|Recv|Abort|Collective|Nccl"
)

#: operators that take texts and only compute
_ON_TEXTS = re.compile(
    r"(String|StaticRegex|Regex|Unicode|Substr|ReduceJoin|UnsortedSegmentJoin|LookupTable|InitializeTable"
    r"|TensorArray|Decode|Encode|Parse|SparseCross|Fingerprint|ExtractJpegShape)\w*"
)

#: attributes that are texts, and name no file: how something is computed, what it is called, what a message says
_PLAIN = frozenset(
    (
        *("container", "shared_name", "allowed_devices", "debug_name", "device_names", "message", "sharding"),
        *("config", "config_proto", "executor_type"),
        *("frame_name", "stack_name", "tensor_array_name", "source", "var_name"),
        *("equation", "data_format", "src_format", "dst_format", "padding", "bad_indices_policy"),
        *("dimension_numbers", "precision_config", "row_partition_types", "input_order", "set_operation"),
        *("interpolation", "fill_mode", "kernel_type", "noise", "dct_method", "xmp_metadata"),
        *("encoding", "input_encoding", "separator", "left_pad", "right_pad", "fill", "pattern", "rewrite"),
        *("template", "placeholder", "field_delim", "na_value"),
        *("dense_keys", "sparse_keys", "context_dense_keys", "context_sparse_keys"),
        *("feature_list_dense_keys", "feature_list_sparse_keys", "feature_list_dense_missing_assumed_empty"),
    )
)

#: the most bytes of a graph: a message of protocol buffers has no more
_LIMIT = 2 << 30


def check(folder: Path) -> None:
    """Raise UnsafeFileError where loading or calling the SavedModel would touch files, processes or Python.

    Its own variables are read from its folder. Raises SourceError for one that can't be read, or that has
    operators which TensorFlow lacks.
    """
    for graph in _read(folder).meta_graphs:
        functions = {function.signature.name for function in graph.graph_def.library.function}
        running = list(reached(graph))
        touching = sorted({one.node.op for one in running if _is_touching(one)})
        if touching:
            raise UnsafeFileError(
                f"{folder} runs operators that touch files or code: {', '.join(touching[:5])}",
                "take them out of the model, or give --allow-pickle if you trust who made it",
            )
        unknown = sorted({one.node.op for one in running if _definition(one.node.op) is None} - functions)
        if unknown:
            raise SourceError(
                f"{folder} has operators that TensorFlow lacks: {', '.join(unknown[:5])}",
                "save it again without them, or import the package that brings them",
            )


def _read(folder: Path) -> Any:
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        with open_regular(folder / "saved_model.pb", _LIMIT, SourceError) as stream:
            saved.ParseFromString(stream.read())
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(
            f"{folder} is no SavedModel, or a damaged one: {first_line(error)}", "save it again"
        ) from error
    return saved


def _definition(operator: str) -> Any:
    """TensorFlow's definition of an operator, or None."""
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(operator)


def _is_touching(one: Reached) -> bool:
    node, definition = one.node, _definition(one.node.op)
    if _TOUCHING.search(node.op):
        return True
    if definition is None or (node.op == "RestoreV2" and _reads_variables(one)):
        return False
    return _takes_a_name(definition) or any(_is_named(node, attribute) for attribute in definition.attr)


def _reads_variables(one: Reached) -> bool:
    """Whether what it reads is what TensorFlow gives it: the variables in the model's folder."""
    return one.variables != "" and [tensor_name(name) for name in one.node.input[:1]] == [one.variables]


def _takes_a_name(definition: Any) -> bool:
    """Whether an input of the operator is always a text, which may name a file.

    A reference to a text is none: so the first versions of tables and queues are handed on.
    """
    from tensorflow.core.framework import types_pb2

    inputs = [argument for argument in definition.input_arg if argument.type == types_pb2.DT_STRING]
    return any(not argument.is_ref for argument in inputs) and not _ON_TEXTS.fullmatch(definition.name)


def _is_named(node: Any, attribute: Any) -> bool:
    """Whether the attribute has a text that may name a file, by itself or as the caller of a function says."""
    if attribute.type not in ("string", "list(string)") or attribute.name in _PLAIN:
        return False
    if attribute.allowed_values.list.s:
        return False
    value = node.attr.get(attribute.name, attribute.default_value)
    return bool(value.s or any(value.list.s) or value.placeholder)
