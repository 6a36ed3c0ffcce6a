"""Operators and their translations: which ones have none, where they are in the model, and the user's own."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from modelexport.errors import ConversionError
from modelexport.toolkit import Unsupported

#: torch operator → onnxscript function; filled by `modelexport_onnx.register`
TRANSLATIONS: dict[Any, Any] = {}

ENTRY_POINTS = "mx.onnx_operators"


def load_registered() -> dict[Any, Any]:
    """The user's translations, those of installed packages included."""
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:
            raise ConversionError(
                f"the operator translations of {point.value} can't be imported: {type(error).__name__}: {error}",
                f"fix or uninstall {point.dist.name if point.dist else point.value}",
            ) from error
    return dict(TRANSLATIONS)


def find_unsupported(program: Any, table: dict[Any, Any], opset: int) -> list[Unsupported]:
    """Every call in the decomposed program that the exporter has no translation for.

    It asks the exporter's own registry and dispatcher. They are private to torch, which offers no public
    query: the caller uses this to explain a failed export, never to decide about one.
    """
    import torch
    from torch.onnx._internal.exporter import _decomp, _dispatching, _registration

    registry = _registration.ONNXRegistry.from_torchlib(opset)
    for operator, translation in table.items():
        registry.register_op(operator, translation)
    decompositions = _decomp.create_onnx_friendly_decomposition_table(
        _decomp.get_onnx_implemented_overloads(registry)
    )
    missing: list[Unsupported] = []
    for node in program.run_decompositions(decompositions).graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        if "_assert" in node.target.name():  # the exporter drops assertions before it translates
            continue
        if _dispatching.dispatch(node, registry)[0] is None:
            missing.append(Unsupported.at(node))
    return list(dict.fromkeys(missing))
