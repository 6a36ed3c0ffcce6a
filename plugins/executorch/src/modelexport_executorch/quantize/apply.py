"""A captured program with integers in it, in 8 bits or 4, and which of its layers they are in."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import TYPE_CHECKING, Any

from modelexport.contract import Session
from modelexport.errors import ConversionError, first_line
from modelexport.toolkit import failed, module_reference, recaptured, translated

from . import groups, pt2e
from .layers import KINDS
from .work import Work

if TYPE_CHECKING:
    from modelexport.contract import Arrays


def quantized(work: Work, left: Set[str], samples: Iterable[Arrays]) -> Any:
    """The program's module, quantized but for the layers `left`; ranges of activations come from `samples`.

    Raises ConversionError where torchao can't quantize it.
    """
    module = work.captured.program.module(check_guards=False)
    hint = "try another -k mode=, or leave layers out with -k exclude=…; --debug shows the trace"
    with translated(failed("torchao can't quantize the program", hint)):
        if work.bits == 4:
            nodes = {layer.node for name, layer in work.layers.items() if name not in left}
            return groups.quantized(module, nodes, work.group_size)
        nodes = {layer.node for name, layer in work.layers.items() if name in left}
        return pt2e.quantized(module, nodes, work.mode == "dynamic", map(work.arguments, samples))


def integer_layers(work: Work, module: Any) -> set[str]:
    """Names of the layers whose weight is made of integers in a quantized module."""
    names = {layer.node: name for name, layer in work.layers.items()}
    if work.bits == 4:
        return {names[node] for node in groups.replaced(module) if node in names}
    return {names[node.name] for node in module.graph.nodes if node.name in names and _has_integers(node)}


def _has_integers(node: Any) -> bool:
    _, place = KINDS.get(str(node.target), ("", 0))
    return "dequantize" in str(getattr(node.args[place], "target", ""))


def simulated(work: Work, module: Any) -> Session:
    """A quantized module as a Session, computed by PyTorch."""
    names = [spec.name for spec in work.artifact.outputs]
    reference = module_reference(module, work.captured.inputs, names, work.captured.program)
    return Session(lambda inputs: reference(dict(inputs)), work.captured.inputs, work.artifact.outputs)


def program(work: Work, module: Any) -> Any:
    """A quantized module as a captured program again. Raises ConversionError where torch.export can't."""
    try:
        return recaptured(work.captured, work.captured.inputs, module=module).program
    except Exception as error:
        raise ConversionError(
            f"torch.export can't capture the quantized program: {first_line(error)}",
            "try another -k mode=; --debug shows the trace",
        ) from error
