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
class Found:
    """A layer: the node that computes it, its kind, and its weight's range and bytes."""

    node: str
    kind: str
    range: tuple[float, float] | None
    bytes: int


def find(program: Any) -> dict[str, Found]:
    """Layers by the names of their weights, in order; one weight used twice is two layers, numbered."""
    module = program.module(check_guards=False)
    found: dict[str, Found] = {}
    for node in module.graph.nodes:
        kind, place = KINDS.get(str(node.target), ("", 0))
        if not kind or getattr(node.args[place], "op", "") != "get_attr":
            continue
        weight = tensor(module, node.args[place].target)
        name = base = str(node.args[place].target).removesuffix(".weight")
        number = 2
        while name in found:
            name, number = f"{base}#{number}", number + 1
        span = (float(weight.min()), float(weight.max())) if weight.numel() else None
        found[name] = Found(node.name, kind, span, weight.numel() * weight.element_size())
    return found


def tensor(module: Any, path: str) -> Any:
    """A parameter or buffer of a module, by its dotted path."""
    for part in path.split("."):
        module = getattr(module, part)
    return module.detach()


def reason(layer: Found, mode: str, bits: int) -> str:
    """Why a layer that nobody left out is in float32 all the same."""
    if layer.kind == "embedding":
        return "XNNPACK looks nothing up: tables stay as they are"
    if bits == 4:
        return "4 bits are for linear layers whose inputs come in whole groups"
    return f"XNNPACK's quantizer has no {mode} form of this {layer.kind}"
