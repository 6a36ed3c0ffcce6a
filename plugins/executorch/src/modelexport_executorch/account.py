"""What was written, for the manifest: who computes what, the memory plan, the kernels that a runtime must have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from . import graph

#: a memory plan that the user is told about, in bytes
LARGE = 256 << 20

#: operators left to the CPU that the user is told about, at most
NAMED = 4


def delegation(edge: Any) -> dict[str, Any]:
    """Operators of an edge program inside and outside of delegates: how many, and which were left behind."""
    module = edge.exported_program().graph_module
    inside: Counter[str] = Counter()
    delegates = list(graph.delegated_parts(module))
    for delegate in delegates:
        inside.update(_operators(delegate.original_module.graph_module))
    left = Counter(_operators(module))
    total = inside.total() + left.total()
    return {
        "delegates": dict(Counter(delegate.backend_id for delegate in delegates)),
        "delegated": {
            "operators": inside.total(),
            "of": total,
            "share": round(inside.total() / total, 4) if total else 0.0,
        },
        "delegated_operators": dict(sorted(inside.items())),
        "operators": dict(sorted(left.items())),
    }


def _operators(module: Any) -> Iterator[str]:
    for node in graph.calls(module):
        if graph.is_edge(node) and node.target._op.name() != "aten::view_copy":  # a view takes no time
            yield str(node.target._op).removesuffix(".default")


def kernels(program: Any) -> list[str]:
    """Names of the kernels that a finished program calls, as selective builds want them: `aten::add.out`."""
    return sorted(
        {
            f"{operator.name}.{operator.overload}" if operator.overload else operator.name
            for plan in program.execution_plan
            for operator in plan.operators
        }
    )


def memory(program: Any) -> list[int]:
    """Bytes that the memory plan takes at run time, one figure an arena; delegates plan their own besides."""
    return [size for plan in program.execution_plan for size in plan.non_const_buffer_sizes[1:]]


def notes(details: Mapping[str, Any]) -> list[str]:
    """Lines for the user: what no delegate took, and a memory plan that is large."""
    lines = []
    share, left = details["delegated"]["share"], details["operators"]
    if details["delegates"] and left:
        most = sorted(left.items(), key=lambda item: (-item[1], item[0]))[:NAMED]
        named = ", ".join(f"{name.removeprefix('aten.')} × {count}" for name, count in most)
        lines.append(f"{share:.0%} of the operators are delegated; left to the CPU's kernels: {named}")
    if (planned := sum(details["memory"])) > LARGE:
        lines.append(
            f"{planned / 2**20:.0f} MiB of memory are planned, for the largest sizes declared: "
            "narrower dims take less, as with --dim executorch.NAME=LOW..HIGH"
        )
    return lines
