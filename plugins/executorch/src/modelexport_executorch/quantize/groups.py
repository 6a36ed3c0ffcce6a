"""4 bits: linear layers with a scale for each group of weights.

torchao quantizes modules, so the calls of a captured program become modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

from .layers import tensor


def quantized(module: Any, wanted: Set[str], size: int) -> Any:
    """A module with the linear layers of the nodes `wanted` in 4 bits, in groups of `size` weights.

    A layer whose inputs don't come in whole groups stays as it is.
    """
    import torch
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerGroup

    for node in [node for node in module.graph.nodes if node.target is torch.ops.aten.linear.default]:
        if node.name in wanted and _has_groups(module, node, size):
            _make_module(module, node)
    module.graph.eliminate_dead_code()
    module.recompile()
    quantize_(
        module, Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int4, weight_granularity=PerGroup(size))
    )
    return module


def replaced(module: Any) -> Iterator[str]:
    """The nodes whose calls became modules."""
    for part in module.modules():
        if node := getattr(part, "replaces", ""):
            yield node


def _has_groups(module: Any, node: Any, size: int) -> bool:
    weight = node.args[1]
    return weight.op == "get_attr" and bool(tensor(module, weight.target).shape[1] % size == 0)


def _make_module(module: Any, node: Any) -> None:
    """Replace a call of `aten.linear` with a module `torch.nn.Linear` that has the same weights."""
    import torch

    value, weight, bias = (*node.args, None)[:3]
    matrix = tensor(module, weight.target)
    linear = torch.nn.Linear(matrix.shape[1], matrix.shape[0], bias is not None, dtype=matrix.dtype)
    linear.weight = torch.nn.Parameter(matrix, requires_grad=False)
    if bias is not None:
        linear.bias = torch.nn.Parameter(tensor(module, bias.target), requires_grad=False)
    linear.replaces = node.name
    module.add_submodule(f"layer_{node.name}", linear)
    with module.graph.inserting_before(node):
        call = module.graph.call_module(f"layer_{node.name}", (value,))
    call.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    module.graph.erase_node(node)
