"""The layers of a captured program: what has a weight, by the weight's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: operator → what it is called, and where its weight is among its arguments
KINDS = {
    "aten.linear.default": ("linear", 1),
    "aten.conv1d.default": ("conv1d", 1),
    "aten.conv2d.default": ("conv2d", 1),
    "aten.conv2d.padding": ("conv2d", 1),
    "aten.conv1d.padding": ("conv1d", 1),
    "aten.conv_transpose1d.default": ("conv_transpose1d", 1),
    "aten.conv_transpose2d.input": ("conv_transpose2d", 1),
    "aten.embedding.default": ("embedding", 0),
}


@dataclass(frozen=True)
class Layer:
    """A layer: the name of the node that computes it, its kind, its weight's range, and its weight's bytes."""

    node: str
    kind: str
    range: tuple[float, float] | None
    bytes: int

    def takes(self, bits: int) -> bool:
        """Whether layers of its kind can be quantized to so many bits."""
        return self.kind == "linear" if bits == 4 else self.kind != "embedding"


def layers_of(program: Any) -> dict[str, Layer]:
    """Layers by the names of their weights, in order; one weight used twice is two layers, numbered."""
    module = program.module(check_guards=False)
    layers: dict[str, Layer] = {}
    for node in module.graph.nodes:
        kind, place = KINDS.get(str(node.target), ("", 0))
        if not kind or getattr(node.args[place], "op", "") != "get_attr":
            continue
        weight = tensor(module, node.args[place].target)
        name = base = str(node.args[place].target).removesuffix(".weight")
        number = 2
        while name in layers:
            name, number = f"{base}#{number}", number + 1
        span = (float(weight.min()), float(weight.max())) if weight.numel() else None
        layers[name] = Layer(node.name, kind, span, weight.numel() * weight.element_size())
    return layers


def tensor(module: Any, path: str) -> Any:
    """A parameter or buffer of a module, by its dotted path."""
    for part in path.split("."):
        module = getattr(module, part)
    return module.detach()
