"""A captured program, brought into operators that the converter translates, and one that the converter is taught.

`lstm` arrives from torch.export as one call with a tuple of results; coremltools' function for TorchScript gives
each result a name of its own. Without it recurrence is unrolled into matrix products, some for each step. (`gru`
is unrolled: coremltools makes a loop of it that can't be read back.)
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from modelexport.toolkit import quiet

from .backend import coremltools

#: operators that the converter makes into one operator of Core ML, which is faster than their parts
_WHOLE = ("aten.lstm.input", "aten.scaled_dot_product_attention.default")

#: operators that coremltools translates from TorchScript only → how many results they have
_TUPLES = {"lstm": 3}


def lowered(program: Any, whole: bool = True) -> Any:
    """A copy of an exported program, in the operators that the converter takes. The program stays as it is.

    The default table takes transformers apart (an empty one leaves `new_ones` and such); what Core ML has an
    operator for stays whole, unless `whole` is false.
    """
    import torch

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


def holds_composites(program: Any) -> bool:
    """Whether a lowered program has an operator that could be taken apart still."""
    return any(str(node.target) in _WHOLE for node in program.graph.nodes)


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
                graph.call_function(aten.repeat_interleave.self_int, (own, heads // own.meta["val"].shape[-3], -3))
                for own in shared
            ]
        node.args = (query, *repeated, *node.args[3:])
        node.kwargs = {name: value for name, value in node.kwargs.items() if name != "enable_gqa"}
    program.graph_module.recompile()


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


# --------------------------------------------------------------------------------------- the converter


def teach_converter() -> None:
    """Teach coremltools' registry the operators of `_TUPLES`, once; what it knows already stays as it is."""
    registry = coremltools("converters.mil.frontend.torch.torch_op_registry")._TORCH_OPS_REGISTRY
    for name, results in _TUPLES.items():
        if f"{name}.input" not in registry.name_to_func_mapping:
            registry.set_func_by_name(_with_tuple(registry.get_func(name), results), f"{name}.input")


def _with_tuple(function: Callable[[Any, Any], None], results: int) -> Callable[[Any, Any], None]:
    """A translation that names each of the results, as `function` wants it, and hands them on as a tuple."""

    def translate(context: Any, node: Any) -> None:
        named = copy.copy(node)
        named.outputs = [f"{node.name}_{index}" for index in range(results)]
        function(context, named)
        context.add(tuple(context[name] for name in named.outputs), torch_name=node.name)

    return translate
