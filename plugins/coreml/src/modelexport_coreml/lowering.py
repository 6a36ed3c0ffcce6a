"""What the converter takes: operators it has no translation for, and rewrites that bring a program there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modelexport.toolkit import module_path, source_line

#: operators that the converter makes into one operator of Core ML, which is faster than their parts
_WHOLE = ("aten.lstm.input", "aten.scaled_dot_product_attention.default")


def lowered(program: Any, whole: bool = True) -> Any:
    """A copy of an exported program, in the operators that the converter takes. The program stays as it is.

    The default table takes transformers apart (an empty one leaves `new_ones` and such); what Core ML has an
    operator for stays whole, unless `whole` is false.
    """
    import torch
    from modelexport.toolkit import quiet

    table = torch.export.default_decompositions()
    for operator in [op for op in table if whole and str(op) in _WHOLE]:
        del table[operator]
    for name, rewrite in _rewrites().items():
        packet, _, overload = name.partition(".")
        table[getattr(getattr(torch.ops.aten, packet), overload)] = rewrite
    with quiet("torch.fx", "torch._export"):
        program = copy.deepcopy(program)
        _repeat_shared_heads(program)
        return program.run_decompositions(table)


def _repeat_shared_heads(program: Any) -> None:
    """Attention whose heads share keys gets a key for each: the converter would put them in a wrong order."""
    import torch

    graph, aten = program.graph, torch.ops.aten
    for node in graph.find_nodes(op="call_function", target=aten.scaled_dot_product_attention.default):
        if not node.kwargs.get("enable_gqa"):
            continue
        query, *shared = node.args[:3]
        heads = query.meta["val"].shape[-3]
        with graph.inserting_before(node):
            repeated = [
                graph.call_function(
                    aten.repeat_interleave.self_int, (given, heads // given.meta["val"].shape[-3], -3)
                )
                for given in shared
            ]
        node.args = (query, *repeated, *node.args[3:])
        node.kwargs = {name: value for name, value in node.kwargs.items() if name != "enable_gqa"}
    program.graph_module.recompile()


def holds_composites(program: Any) -> bool:
    """Whether a lowered program has an operator that could be taken apart still."""
    return any(str(node.target) in _WHOLE for node in program.graph.nodes)


def _rewrites() -> dict[str, Callable[..., Any]]:
    """Operators that the converter lacks, written with those that it has."""
    import torch

    def round_decimals(x: Any, *, decimals: int) -> Any:
        return torch.round(x * 10.0**decimals) / 10.0**decimals

    def adaptive_pool(x: Any, output_size: Any) -> Any:
        """The converter wants every size known; a fixed height and width that the output divides will do."""
        sizes, wanted = x.shape[-2:], list(output_size)
        fixed = all(isinstance(size, int) for size in sizes)
        if not fixed or wanted == [1, 1] or any(size % want for size, want in zip(sizes, wanted, strict=True)):
            return NotImplemented
        window = [size // want for size, want in zip(sizes, wanted, strict=True)]
        return torch.ops.aten.avg_pool2d.default(x, window, window)

    def strided(pool: Any) -> Callable[..., Any]:
        def with_stride(x: Any, kernel_size: Any, stride: Any = (), *others: Any) -> Any:
            """The converter wants the stride said, also where it is the window's size."""
            return NotImplemented if stride else pool(x, kernel_size, kernel_size, *others)

        return with_stride

    aten = torch.ops.aten
    return {
        "round.decimals": round_decimals,
        "_adaptive_avg_pool2d.default": adaptive_pool,
        "max_pool2d_with_indices.default": strided(aten.max_pool2d_with_indices.default),
        "max_pool3d_with_indices.default": strided(aten.max_pool3d_with_indices.default),
    }


# --------------------------------------------------------------------------------------- what it lacks

#: operators people meet → what helps
HINTS = {
    "cond": "Core ML's converter takes no torch.cond from torch.export: torch.where computes both sides",
    "while_loop": "Core ML's converter takes no loops from torch.export: unroll it",
    "sym_float": "the size of a resize depends on a dynamic dim: fix that dim",
    "prod": "write x.log().sum().exp() for positive values, or multiply the parts",
    "histc": "compare with the bins' edges and sum",
}


@dataclass(frozen=True)
class Unsupported:
    """An operator without a translation, and where the model uses it."""

    operator: str
    module: str
    line: str

    def __str__(self) -> str:
        return f"{self.operator} in {self.module}" + (f" at {self.line}" if self.line else "")

    @property
    def hint(self) -> str:
        name = self.operator.removeprefix("aten.").partition(".")[0]
        return HINTS.get(name, "")


def find_unsupported(program: Any) -> list[Unsupported]:
    """Every call in a lowered program that the converter has no translation for, asked of its own registry."""
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
    from coremltools.converters.mil.frontend.torch.utils import sanitize_op_kind

    found: list[Unsupported] = []
    for node in program.graph.nodes:
        if node.op != "call_function" or "_assert" in str(node.target):
            continue  # the converter drops assertions
        target = node.target
        name = sanitize_op_kind(target.name() if callable(getattr(target, "name", None)) else target.__name__)
        if _TORCH_OPS_REGISTRY.get_func(name) is None:
            found.append(Unsupported(str(target), module_path(node), source_line(node)))
    return list(dict.fromkeys(found))
