"""Which layers suffer most from quantization: each of them alone is rounded, and the model's outputs compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelexport.toolkit import call_arguments, to_torch

from . import layers

if TYPE_CHECKING:
    from modelexport.contract import Goal

    from . import Work


def most_harmful(work: Work, goal: Goal) -> list[str]:
    """Layers that can be quantized, those first whose rounding changes the outputs most, on one sample."""
    import torch

    module = work.captured.program.module(check_guards=False)
    sample = {name: to_torch(array) for name, array in goal.samples[0].items()}
    args, kwargs = call_arguments(work.captured.program, work.captured.inputs, sample)
    rounding = _rounding(module, work.bits, work.options.group_size)
    with torch.no_grad():
        want = rounding.outputs(args, kwargs)
        noise = {}
        for name, layer in work.layers.items():
            if layer.kind == "embedding" or (work.bits == 4 and layer.kind != "linear"):
                continue
            rounding.chosen = layer.node
            noise[name] = _difference(rounding.outputs(args, kwargs), want)
    return sorted(noise, key=lambda name: -noise[name])


def _rounding(module: Any, bits: int, group: int) -> Any:
    """An interpreter of a module that rounds the weight and the input of one chosen layer."""
    import torch

    class Rounding(torch.fx.Interpreter):  # type: ignore[misc]
        chosen = ""

        def outputs(self, args: Any, kwargs: Any) -> list[Any]:
            leaves = torch.utils._pytree.tree_leaves((args, kwargs))
            found = torch.utils._pytree.tree_leaves(self.run(*leaves))
            return [value for value in found if value.is_floating_point()]

        def run_node(self, node: Any) -> Any:
            if node.name != self.chosen:
                return super().run_node(node)
            args, kwargs = self.fetch_args_kwargs_from_env(node)
            _, place = layers.KINDS[str(node.target)]
            rounded = [*args]
            rounded[0] = _rounded(args[0].reshape(1, -1), 8).reshape(args[0].shape)
            flat = (
                args[place].reshape(-1, group) if bits == 4 and args[place].shape[-1] % group == 0 else args[place]
            )
            rounded[place] = _rounded(flat.flatten(1), bits).reshape(args[place].shape)
            return node.target(*rounded, **kwargs)

    return Rounding(module)


def _rounded(rows: Any, bits: int) -> Any:
    """Rows to multiples of a step of their own."""
    step = rows.abs().amax(1, keepdim=True).clamp_min(1e-12) / (2 ** (bits - 1) - 1)
    return (rows / step).round() * step


def _difference(got: list[Any], want: list[Any]) -> float:
    """Noise power over signal power, of the worst output."""
    return max(
        float((g - w).square().sum() / w.square().sum().clamp_min(1e-30)) for g, w in zip(got, want, strict=True)
    )
