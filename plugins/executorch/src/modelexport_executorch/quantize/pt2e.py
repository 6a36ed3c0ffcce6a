"""8 bits: PyTorch's quantization of captured programs (PT2E), with XNNPACK's quantizer."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Any

from .layers import KINDS


def quantized(
    module: Any, left: Set[str], dynamic: bool, calls: Iterable[tuple[tuple[Any, ...], dict[str, Any]]]
) -> Any:
    """A module in 8 bits but for the nodes `left`; `calls` are the arguments that it is calibrated with."""
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import get_symmetric_quantization_config
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=dynamic)
    quantizer = _quantizer()().set_global(config)
    quantizer.set_filter_function(lambda node: node.name not in left)
    prepared = prepare_pt2e(module, quantizer)
    with torch.no_grad():
        for args, kwargs in calls:
            prepared(*args, **kwargs)
    return convert_pt2e(prepared)


def _quantizer() -> Any:
    """The class of XNNPACK's quantizer with two of its ways mended.

    It makes a float tensor of every number that is added to or multiplied with another: here only of those that
    meet floats, since the positions of a transformer's words are integers and must stay so. And it rounds between
    a layer and a clamp behind it, such as ReLU6, so that most of the scale is spent on what is cut off: XNNPACK
    computes both as one.
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer

    class Quantizer(XNNPACKQuantizer):  # type: ignore[misc]
        def transform_for_annotation(self, model: Any) -> Any:
            hidden = _hide_integers(model)
            model = super().transform_for_annotation(model)
            for node, target in hidden.items():
                node.target = target
            model.recompile()
            return model

        def annotate(self, model: Any) -> Any:
            model = super().annotate(model)
            for node in model.graph.nodes:
                _round_behind_clamp(node)
            return model

    return Quantizer


def _hide_integers(model: Any) -> dict[Any, Any]:
    """Make other operators of sums and products of integers; returns those nodes, each with its own operator."""
    import torch

    kinds = (torch.ops.aten.add.Tensor, torch.ops.aten.mul.Tensor)
    hidden = {
        node: node.target
        for node in model.graph.nodes
        if node.target in kinds and not node.meta["val"].is_floating_point()
    }
    for node in hidden:
        node.target = torch.ops.aten.sub.Tensor  # an operator that XNNPACK's quantizer leaves alone
    return hidden


def _round_behind_clamp(node: Any) -> None:
    """Move the rounding of a layer's output behind the clamp `node`, if that is one and takes no other's."""
    import torch
    from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY, QuantizationAnnotation

    if node.target not in (torch.ops.aten.hardtanh.default, torch.ops.aten.hardtanh_.default):
        return
    layer = node.args[0]
    annotation = layer.meta.get(Q_ANNOTATION_KEY)
    if annotation is None or str(layer.target) not in KINDS or len(layer.users) > 1:
        return
    node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(output_qspec=annotation.output_qspec, _annotated=True)
    annotation.output_qspec = None
