"""Every field of a program's description, checked by torch's own schema: its type, and what text may stand in it.

Names are written into Python code that torch compiles, so they must be names. A text field that is not known here
(of a newer torch) is refused. Fields that the schema does not have are ignored, as torch ignores them.

Source: `torch/_export/serde/schema.py`, torch 2.13.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Callable
from enum import IntEnum
from functools import cache, partial
from typing import Any

from .expressions import check_expression, check_guard, check_range
from .operators import check_operator
from .refused import Refused

Check = Callable[[Any], None]

_NAME = re.compile(r"[A-Za-z_]\w{0,999}", re.ASCII)
_DEVICE = re.compile(r"[a-z]{1,20}", re.ASCII)

#: what Python code that quotes a text can't hold
_QUOTES = frozenset("\"'\\`")

#: how deep graphs and nested inputs may be nested
_DEPTH = 64


def check(kind: str, value: Any) -> None:
    """Raise Refused where `value`, as it was read of JSON, might make torch run code as the schema's class `kind`.

    Raises ValueError where it is no such thing at all.
    """
    _of_class(_schema(kind))(value)


@cache
def _schema(name: str) -> Any:
    from torch._export.serde import schema

    return getattr(schema, name)


# --------------------------------------------------------------------------------------- text


def _text(value: Any) -> None:
    if not isinstance(value, str):
        raise ValueError(f"a text is {type(value).__name__}")


def _name(value: Any) -> None:
    _text(value)
    if not _NAME.fullmatch(value):
        raise Refused(f"the name {value[:80]!r}")


def _name_or_empty(value: Any) -> None:
    if value != "":
        _name(value)


def _plain(value: Any) -> None:
    """A path of a parameter, or a constant: it may be quoted in code."""
    _text(value)
    if len(value) > 4096 or not value.isprintable() or _QUOTES & set(value):
        raise Refused(f"the name {value[:80]!r}")


def _device(value: Any) -> None:
    _text(value)
    if not _DEVICE.fullmatch(value):
        raise Refused(f"the device {value[:80]!r}")


def _parsed_by(parse: Callable[[str], None]) -> Check:
    """Each different text once: the same sizes come back with every tensor."""
    known = cache(parse)

    def check_text(value: Any) -> None:
        _text(value)
        known(value)

    return check_text


def _nesting(value: Any) -> None:
    """How inputs and outputs are nested, in JSON within JSON: of types that torch does not import."""
    _text(value)
    version, tree = json.loads(value)
    if version != 1:
        raise Refused(f"the nesting of inputs of version {version!r}")
    _branch(tree, _DEPTH)


def _branch(tree: Any, depth: int) -> None:
    kind, context, children = tree["type"], tree["context"], tree["children_spec"]
    if not depth:
        raise Refused("inputs that are nested too deep")
    if kind is not None and not _reads_itself(kind):
        context = json.loads(context)
    _context(context, _DEPTH)
    for child in children:
        _branch(child, depth - 1)


def _reads_itself(kind: Any) -> bool:
    """Whether a type that inputs are nested in is a namedtuple, which torch reads without JSON.

    Raises Refused for types with a reader of their own, which may import whatever it is told to.
    """
    from torch.utils import _pytree as pytree

    known = pytree.SUPPORTED_SERIALIZED_TYPES.get(pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE.get(kind))
    reader = known.from_dumpable_context if known is not None else None
    if not isinstance(kind, str) or reader not in (None, pytree._namedtuple_deserialize):
        raise Refused(f"inputs nested in {str(kind)[:80]!r}")
    return reader is not None


def _context(value: Any, depth: int) -> None:
    """Keys of a nest: names and numbers; torch takes an object with `__enum__` for one to import."""
    if isinstance(value, list) and depth:
        for entry in value:
            _context(entry, depth - 1)
    elif isinstance(value, str):
        _plain(value)
    elif value is not None and not isinstance(value, (int, float)):
        raise Refused(f"inputs nested by {str(value)[:80]!r}")


def _node_metadata(value: Any) -> None:
    """What torch keeps of a node's origin: text, but for functions that it looks up by name."""
    _table(_text, _text)(value)
    for key, text in value.items():
        if key == "source_fn_stack" and not re.fullmatch(r"[\w.,;<>$ ()\[\]-]*", text, re.ASCII):
            raise Refused(f"the function {text[:80]!r}")


def _no_objects(value: Any) -> None:
    if value:
        raise Refused("an object of a class of its own")


def _constant_argument(value: Any) -> None:
    """An argument of the whole program: text in it stands in the code of its guards."""
    _of_class(_schema("Argument"))(value)
    if "as_string" in value:
        _plain(value["as_string"])
    for text in value.get("as_strings") or ():
        _plain(text)
    if {"as_graph", "as_operator", "as_string_to_argument"} & set(value):
        raise Refused("an argument that is an operator")


def _each(one: Check) -> Check:
    def check_all(value: Any) -> None:
        if not isinstance(value, list):
            raise ValueError(f"a list is {type(value).__name__}")
        for entry in value:
            one(entry)

    return check_all


def _table(key: Check, value: Check) -> Check:
    def check_all(table: Any) -> None:
        if not isinstance(table, dict):
            raise ValueError(f"a table is {type(table).__name__}")
        for name, entry in table.items():
            key(name)
            value(entry)

    return check_all


#: what may stand in the fields that are text, or hold some
_RULES: dict[str, Check] = {
    **dict.fromkeys(
        (
            *("TensorArgument.name", "TokenArgument.name", "GraphArgument.name", "InputToConstantInputSpec.name"),
            *("SymIntArgument.as_name", "SymFloatArgument.as_name", "SymBoolArgument.as_name"),
        ),
        _name,
    ),
    **dict.fromkeys(
        (
            *("InputToParameterSpec.parameter_name", "InputToBufferSpec.buffer_name"),
            *("InputToTensorConstantSpec.tensor_constant_name", "BufferMutationSpec.buffer_name"),
            *("ParameterMutationSpec.parameter_name", "GradientToParameterSpec.parameter_name"),
            *("GradientToUserInputSpec.user_input_name", "UserInputMutationSpec.user_input_name"),
            *("ModuleCallEntry.fqn", "ConstantValue.as_string", "PayloadMeta.path_name"),
        ),
        _plain,
    ),
    **dict.fromkeys(("InputSpec.custom_obj", "Argument.as_custom_obj", "Graph.custom_obj_values"), _no_objects),
    **dict.fromkeys(("ExportedProgram.torch_version", "Argument.as_string"), _text),
    "NamedArgument.name": _name_or_empty,
    "Node.name": _name_or_empty,
    "Node.target": _parsed_by(check_operator),
    "Node.metadata": _node_metadata,
    "Argument.as_operator": _parsed_by(check_operator),
    "Argument.as_strings": _each(_text),
    "SymExpr.expr_str": _parsed_by(check_expression),
    "Device.type": _device,
    "ModuleCallSignature.in_spec": _parsed_by(_nesting),
    "ModuleCallSignature.out_spec": _parsed_by(_nesting),
    "ModuleCallSignature.forward_arg_names": _each(_name),
    "UserInputSpec.arg": _constant_argument,
    "UserOutputSpec.arg": _constant_argument,
    "Graph.inputs": _each(_constant_argument),
    "NamedTupleDef.field_names": _each(_name),
    "GraphModule.metadata": _table(_text, _text),
    "ExportedProgram.verifiers": _each(_plain),
    "ExportedProgram.guards_code": _each(_parsed_by(check_guard)),
}

#: what may stand in the keys of tables
_KEYS: dict[str, Check] = {
    **dict.fromkeys(
        ("Graph.tensor_values", "Graph.sym_int_values", "Graph.sym_bool_values", "Graph.sym_float_values"), _name
    ),
    **dict.fromkeys(
        ("PayloadConfig.config", "ExportedProgram.opset_version", "GraphModule.treespec_namedtuple_fields"), _plain
    ),
    "Argument.as_string_to_argument": _name,
    "ExportedProgram.range_constraints": _parsed_by(check_range),
}


# --------------------------------------------------------------------------------------- types


@cache
def _of_class(cls: Any) -> Check:
    """The check of one class of the schema; a union has exactly one of its fields."""
    from torch._export.serde.union import _Union

    known: dict[str, Check] = {}
    union = issubclass(cls, _Union)

    def check_object(value: Any) -> None:
        if not isinstance(value, dict) or (union and len(value) != 1):
            raise ValueError(f"a {cls.__name__} is {type(value).__name__}")
        for name, one in known.items():
            if name in value:
                one(value[name])

    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        known[field.name] = _of_field(f"{cls.__name__}.{field.name}", hints[field.name])
    return check_object


def _of_field(field: str, hint: Any) -> Check:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (inner,) = (kind for kind in typing.get_args(hint) if kind is not type(None))
        return partial(_unless_none, _of_field(field, inner))
    return _RULES.get(field) or _of_type(field, hint)


def _unless_none(one: Check, value: Any) -> None:
    if value is not None:
        one(value)


def _of_type(field: str, hint: Any) -> Check:
    origin, parameters = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        return _each(_of_field(field, parameters[0]))
    if origin is dict:
        return _table(_KEYS.get(field, partial(_unknown, field)), _of_field(field, parameters[1]))
    if dataclasses.is_dataclass(hint):
        return partial(_later, hint)
    if hint is bool:
        return _truth
    if hint is float:
        return _real
    if isinstance(hint, type) and issubclass(hint, (int, IntEnum)):
        return _integer
    return partial(_unknown, field)


def _later(cls: Any, value: Any) -> None:
    """The check of a class that may hold itself, as graphs hold graphs: made when it is asked."""
    _of_class(cls)(value)


def _unknown(field: str, value: Any) -> None:
    raise Refused(f"the field {field}, which is not known here")


def _truth(value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"true or false is {type(value).__name__}")


def _integer(value: Any) -> None:
    if not isinstance(value, int) or value.bit_length() > 64:
        raise ValueError(f"an integer is {type(value).__name__}")


def _real(value: Any) -> None:
    if not isinstance(value, (int, float)) and value not in ("NaN", "Infinity", "-Infinity"):
        raise ValueError(f"a number is {type(value).__name__}")
