"""Which layers suffer most from quantization: each of them alone is rounded, and the model's outputs compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelexport.toolkit import steps

from .layers import KINDS
from .work import Work

if TYPE_CHECKING:
    from modelexport.contract import Goal


def most_harmful(work: Work, goal: Goal) -> list[str]:
    """Layers that can be quantized, those first whose rounding changes the outputs most, on one sample."""
    import torch

    candidates = [
        name for name, layer in work.layers.items() if layer.takes(work.bits) and name not in work.excluded
    ]
    module = work.captured.program.module(check_guards=False)
    args, kwargs = work.arguments(goal.samples[0])
    rounding = _rounding(module, work.bits, work.group_size)
    noise = {}
    with torch.no_grad():
        reference = rounding.outputs(args, kwargs)
        for name in steps(candidates, "measure what each layer loses"):
            rounding.chosen = work.layers[name].node
            noise[name] = _difference(rounding.outputs(args, kwargs), reference)
    return sorted(noise, key=lambda name: -noise[name])


def _rounding(module: Any, bits: int, group: int) -> Any:
    """An interpreter of a module that rounds the weight and the input of one chosen layer."""
    import torch

    class Rounding(torch.fx.Interpreter):  # type: ignore[misc]
        chosen = ""

        def outputs(self, args: Any, kwargs: Any) -> list[Any]:
            leaves = torch.utils._pytree.tree_leaves((args, kwargs))
            values = torch.utils._pytree.tree_leaves(self.run(*leaves))
            return [value for value in values if value.is_floating_point()]

        def run_node(self, node: Any) -> Any:
            if node.name != self.chosen:
                return super().run_node(node)
            args, kwargs = self.fetch_args_kwargs_from_env(node)
            _, place = KINDS[str(node.target)]
            rounded = [*args]
            rounded[0] = _rounded(args[0].reshape(1, -1), 8).reshape(args[0].shape)
            rounded[place] = _rounded_weight(args[place], bits, group)
            return node.target(*rounded, **kwargs)

    return Rounding(module)


def _rounded_weight(weight: Any, bits: int, group: int) -> Any:
    """A weight with a scale for each channel, in 4 bits for each group."""
    grouped = bits == 4 and weight.shape[-1] % group == 0
    rows = weight.reshape(-1, group) if grouped else weight.flatten(1)
    return _rounded(rows, bits).reshape(weight.shape)


def _rounded(rows: Any, bits: int) -> Any:
    """Rows to multiples of a step of their own."""
    step = rows.abs().amax(1, keepdim=True).clamp_min(1e-12) / (2 ** (bits - 1) - 1)
    return (rows / step).round() * step


def _difference(outputs: list[Any], reference: list[Any]) -> float:
    """Noise power over signal power, of the worst output."""
    return max(
        float((value - wanted).square().sum() / wanted.square().sum().clamp_min(1e-30))
        for value, wanted in zip(outputs, reference, strict=True)
    )
