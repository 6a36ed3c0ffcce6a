"""A captured program with integers in it: by PT2E with XNNPACK's quantizer, or by torchao for 4 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from modelexport.errors import ConversionError, first_line, is_disk_error
from modelexport.toolkit import call_arguments, to_torch

from . import layers

if TYPE_CHECKING:
    from . import Work


def quantized(work: Work, left: set[str]) -> Any:
    """The program's module quantized but for the layers `left`. Raises ConversionError where torchao can't."""
    module = work.captured.program.module(check_guards=False)
    names = {layer.node: name for name, layer in work.layers.items()}
    try:
        if work.bits == 4:
            return _grouped(module, work, {node for node, name in names.items() if name not in left})
        return _integers(module, work, {node for node, name in names.items() if name in left})
    except Exception as error:
        if is_disk_error(error):
            raise
        raise ConversionError(
            f"torchao can't quantize the program: {type(error).__name__}: {first_line(error)}",
            "try another -k mode=, or leave layers out with -k exclude=…; --debug shows the trace",
        ) from error


def done(work: Work, module: Any) -> set[str]:
    """Names of the layers whose weight is made of integers in a quantized module."""
    names = {layer.node: name for name, layer in work.layers.items()}
    if work.bits == 4:
        return {names[part.layer] for part in module.modules() if getattr(part, "layer", None) in names}
    found = set()
    for node in module.graph.nodes:
        _, place = layers.KINDS.get(str(node.target), ("", 0))
        if node.name in names and "dequantize" in str(getattr(node.args[place], "target", "")):
            found.add(names[node.name])
    return found


# --------------------------------------------------------------------------------------- 8 bits


def _integers(module: Any, work: Work, left: set[str]) -> Any:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import get_symmetric_quantization_config
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=work.mode == "dynamic")
    quantizer = _quantizer()().set_global(config)
    quantizer.set_filter_function(lambda node: node.name not in left)
    prepared = prepare_pt2e(module, quantizer)
    for args, kwargs in _arguments(work):
        prepared(*args, **kwargs)
    return convert_pt2e(prepared)


def _quantizer() -> Any:
    """XNNPACK's quantizer, with two of its ways mended.

    It makes a float tensor of every number that is added to or multiplied with another: here only of those that
    meet floats, since the positions of a transformer's words are integers and must stay so. And it rounds between
    a layer and a clamp behind it, such as ReLU6, so that most of the scale is spent on what is cut off: XNNPACK
    computes both as one.
    """
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer
    from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY, QuantizationAnnotation

    clamps = (torch.ops.aten.hardtanh.default, torch.ops.aten.hardtanh_.default)

    class Quantizer(XNNPACKQuantizer):  # type: ignore[misc]
        def transform_for_annotation(self, model: Any) -> Any:
            kinds = (torch.ops.aten.add.Tensor, torch.ops.aten.mul.Tensor)
            whole = {
                node: node.target
                for node in model.graph.nodes
                if node.target in kinds and not node.meta["val"].is_floating_point()
            }
            for node in whole:
                node.target = torch.ops.aten.sub.Tensor  # an operator that it leaves alone
            model = super().transform_for_annotation(model)
            for node, target in whole.items():
                node.target = target
            model.recompile()
            return model

        def annotate(self, model: Any) -> Any:
            model = super().annotate(model)
            for node in model.graph.nodes:
                if node.target not in clamps:
                    continue
                layer = node.args[0]
                given = layer.meta.get(Q_ANNOTATION_KEY)
                if given is None or str(layer.target) not in layers.KINDS or len(layer.users) > 1:
                    continue
                node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(
                    output_qspec=given.output_qspec, _annotated=True
                )
                given.output_qspec = None
            return model

    return Quantizer


def _arguments(work: Work) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    import torch

    with torch.no_grad():
        for sample in work.samples:
            tensors = {name: to_torch(array) for name, array in sample.items()}
            yield call_arguments(work.captured.program, work.captured.inputs, tensors)


# --------------------------------------------------------------------------------------- 4 bits


def _grouped(module: Any, work: Work, wanted: set[str]) -> Any:
    """Linear layers with 4-bit weights, a scale a group: torchao quantizes modules, so calls become some."""
    import torch
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerGroup

    _make_modules(
        module, lambda node, weight: node.name in wanted and weight.shape[1] % work.options.group_size == 0
    )
    config = Int8DynamicActivationIntxWeightConfig(
        weight_dtype=torch.int4, weight_granularity=PerGroup(work.options.group_size)
    )
    quantize_(module, config)
    return module


def _make_modules(module: Any, wanted: Callable[[Any, Any], bool]) -> None:
    """Replace calls of `aten.linear` with modules `torch.nn.Linear` that have the same weights."""
    import torch

    for node in [node for node in module.graph.nodes if node.target is torch.ops.aten.linear.default]:
        value, weight, bias = (*node.args, None)[:3]
        if weight.op != "get_attr" or not wanted(node, matrix := layers.tensor(module, weight.target)):
            continue
        linear = torch.nn.Linear(matrix.shape[1], matrix.shape[0], bias is not None, dtype=matrix.dtype)
        linear.weight = torch.nn.Parameter(matrix, requires_grad=False)
        if bias is not None:
            linear.bias = torch.nn.Parameter(layers.tensor(module, bias.target), requires_grad=False)
        linear.layer = node.name
        module.add_submodule(f"layer_{node.name}", linear)
        with module.graph.inserting_before(node):
            call = module.graph.call_module(f"layer_{node.name}", (value,))
        call.meta = dict(node.meta)
        node.replace_all_uses_with(call)
        module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.recompile()
