"""The graphs of a program: its calls, its delegated parts, and those in its branches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def calls(module: Any) -> Iterator[Any]:
    """Every node that calls an operator, in a graph and in those of its branches, but not inside of delegates."""
    import torch

    for node in module.graph.nodes:
        if node.op == "call_function":
            yield node
        elif isinstance(branch := _attribute(module, node), torch.fx.GraphModule):
            yield from calls(branch)


def delegated_parts(module: Any) -> Iterator[Any]:
    """Every part that a delegate has taken of a graph, and of those of its branches."""
    import torch
    from executorch.exir.lowered_backend_module import LoweredBackendModule

    for node in module.graph.nodes:
        part = _attribute(module, node)
        if isinstance(part, LoweredBackendModule):
            yield part
        elif isinstance(part, torch.fx.GraphModule):
            yield from delegated_parts(part)


def is_edge(node: Any) -> bool:
    """Whether a node of an edge program calls an operator that computes."""
    from executorch.exir.dialects.edge._ops import EdgeOpOverload

    return isinstance(node.target, EdgeOpOverload)


def _attribute(module: Any, node: Any) -> Any:
    """What a node takes from the module, None for one that computes."""
    return getattr(module, node.target, None) if node.op == "get_attr" else None
