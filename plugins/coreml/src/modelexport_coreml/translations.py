"""Operators of torch.export that coremltools translates from TorchScript only, taught to its registry.

`lstm` arrives as one call with a tuple of results; coremltools' function gives each result a name of its own, as
TorchScript has it. Without it recurrence is unrolled into matrix products, some for each step. (`gru` is unrolled:
coremltools makes a loop of it that can't be read back.)
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

#: operator → how many results it has
_RESULTS = {"lstm": 3}


def register() -> None:
    """Teach coremltools' registry, once; what it knows already stays as it is."""
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY as REGISTRY

    for name, results in _RESULTS.items():
        if f"{name}.input" not in REGISTRY.name_to_func_mapping:
            function = REGISTRY.get_func(name)
            REGISTRY.set_func_by_name(_tupled(function, results), f"{name}.input")


def _tupled(function: Callable[[Any, Any], None], results: int) -> Callable[[Any, Any], None]:
    def translate(context: Any, node: Any) -> None:
        named = copy.copy(node)
        named.outputs = [f"{node.name}_{index}" for index in range(results)]
        function(context, named)
        context.add(tuple(context[name] for name in named.outputs), torch_name=node.name)

    return translate
