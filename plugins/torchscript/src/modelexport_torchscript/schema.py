"""What a loaded script module says of itself: its forward, its other methods, its mode, what it writes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelexport.errors import InputError


def signature(module: Any) -> str:
    """Forward as C++ calls it: `forward(Tensor x, int sr) -> Tensor`."""
    schema = module.forward.schema
    parameters = ", ".join(f"{argument.type} {argument.name}" for argument in schema.arguments[1:])
    return f"forward({parameters}) -> {', '.join(str(value.type) for value in schema.returns)}"


def methods(module: Any) -> list[str]:
    """The names of everything callable in it but forward."""
    return sorted(name for name in module._c._method_names() if name != "forward")


def takes_names(module: Any, names: Sequence[str]) -> bool:
    """Whether the inputs `names` go in by name: where forward has these parameters, in another order.

    Raises InputError where it has only some of them.
    """
    parameters = [argument.name for argument in module.forward.schema.arguments[1:]]
    if names == parameters[: len(names)] or not set(names) & set(parameters):
        return False
    strangers = [name for name in names if name not in parameters]
    if strangers:
        raise InputError(
            f"the model's forward has no parameter {strangers[0]!r}", f"it has {', '.join(parameters)}"
        )
    return True


def is_frozen(module: Any) -> bool:
    """Whether it was frozen already: a frozen module has no mode any more."""
    return not hasattr(module, "training")


def in_training(module: Any) -> bool:
    """Whether it, or a part of it, is in training mode."""
    return any(getattr(part, "training", False) for part in module.modules())


def hazards(module: Any) -> tuple[list[bool], bool]:
    """Which inputs the model writes to; whether an output may be the memory of an input, weight or buffer."""
    graph = module.inlined_graph
    aliases = graph.alias_db()
    inputs = list(graph.inputs())[1:]
    constants = [
        value
        for kind in ("prim::GetAttr", "prim::Constant")
        for node in graph.findAllNodes(kind)
        for value in node.outputs()
        if "Tensor" in str(value.type())
    ]
    shared = any(
        aliases.may_contain_alias(out, value) for out in graph.outputs() for value in (*inputs, *constants)
    )
    return [aliases.has_writers(value) for value in inputs], shared
