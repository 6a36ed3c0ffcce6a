"""What a program is rewritten with before it is lowered, so that the runtime's own kernels are enough for it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from . import graph

#: branches and loops: ExecuTorch's delegates don't look into them, nor does its lowering decompose what is there
_BRANCHING = ("cond", "while_loop", "map_impl", "scan")


def rewritten(program: Any) -> Any:
    """A copy of a captured program without the operators that others can stand for. It stays as it is itself."""
    table = _table({str(node.target) for node in graph.calls(program.graph_module)})
    fresh = copy.deepcopy(program)
    return fresh.run_decompositions(table) if table else fresh


def _table(used: set[str]) -> dict[Any, Callable[..., Any]]:
    """Operator → what stands for it, for those of a program that calls the operators `used`."""
    import torch

    table: dict[Any, Callable[..., Any]] = {}
    if used & set(_BRANCHING):
        table |= torch.export.default_decompositions()
    for name, rewrite in _rewrites().items():
        packet, _, overload = name.partition(".")
        if f"aten.{name}" in used:
            table[getattr(getattr(torch.ops.aten, packet), overload)] = rewrite
    return table


def _rewrites() -> dict[str, Callable[..., Any]]:
    """Operators that the runtime has no kernel for, written with those that it has."""
    import torch

    def round_decimals(x: Any, *, decimals: int) -> Any:
        return torch.round(x * 10.0**decimals) / 10.0**decimals

    def sort(x: Any, dim: int = -1, descending: bool = False) -> Any:
        return torch.topk(x, x.shape[dim], dim, largest=descending)

    def sort_stable(x: Any, *, stable: bool | None, dim: int = -1, descending: bool = False) -> Any:
        return NotImplemented if stable else sort(x, dim, descending)

    def argsort(x: Any, dim: int = -1, descending: bool = False) -> Any:
        return sort(x, dim, descending)[1]

    def shift_left(x: Any, other: Any) -> Any:
        return torch.bitwise_left_shift(x, other)

    return {
        "round.decimals": round_decimals,
        "sort.default": sort,
        "sort.stable": sort_stable,
        "argsort.default": argsort,
        "__lshift__.Scalar": shift_left,
    }


def without_idle_expands(module: Any) -> Any:
    """A pass of ExecuTorch's that removes `expand` to the size that there is.

    It would copy on the CPU, and part what a delegate could take whole.
    """
    from torch.fx.passes.infra.pass_base import PassResult

    idle = [node for node in module.graph.nodes if graph.is_edge(node) and _is_idle_expand(node)]
    for node in idle:
        node.replace_all_uses_with(node.args[0])
        module.graph.erase_node(node)
    module.recompile()
    return PassResult(module, bool(idle))


def _is_idle_expand(node: Any) -> bool:
    if node.target._op.name() != "aten::expand_copy":
        return False
    before, after = (list(map(str, each.meta["val"].shape)) for each in (node.args[0], node))
    return before == after
