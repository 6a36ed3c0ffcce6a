"""How each mode quantizes a file, in the words of ai-edge-quantizer; what is left out of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

#: layers that can quantize their inputs as they run
_DYNAMIC = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "EMBEDDING_LOOKUP")

_EVERYWHERE = ".*"


def everything(quantizer: Any, mode: str, bits: int, io: str) -> None:
    """Have `quantizer` quantize all that the mode knows, `io` being what the file takes and gives."""
    _MODES[mode](quantizer, bits, io)


def leave_out(quantizer: Any, names: Iterable[str], prefixes: Iterable[str], layers_as_they_run: bool) -> None:
    """Have `quantizer` leave out the operators that write `names`, in every signature (`prefixes`).

    With `layers_as_they_run`, layers among them keep int8 weights, and quantize what they get as they run.
    """
    from ai_edge_quantizer.recipe import TFLOperationName

    signatures = "|".join(map(re.escape, prefixes))
    for name in names:
        scope = rf"(^|;)({signatures})?{re.escape(name)};"
        _not_quantized(quantizer, scope, TFLOperationName.ALL_SUPPORTED)
        if layers_as_they_run:
            for kind in _DYNAMIC:
                quantizer.add_dynamic_config(scope, TFLOperationName(kind), 8)


def _dynamic(quantizer: Any, bits: int, _: str) -> None:
    from ai_edge_quantizer.recipe import TFLOperationName

    quantizer.add_dynamic_config(_EVERYWHERE, TFLOperationName.ALL_SUPPORTED, bits)


def _weight_only(quantizer: Any, bits: int, _: str) -> None:
    from ai_edge_quantizer.recipe import TFLOperationName

    quantizer.add_weight_only_config(_EVERYWHERE, TFLOperationName.ALL_SUPPORTED, bits)


def _float16(quantizer: Any, _bits: int, _io: str) -> None:
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.recipe import AlgorithmName, TFLOperationName

    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    quantizer.update_quantization_recipe(
        _EVERYWHERE, TFLOperationName.ALL_SUPPORTED, config, AlgorithmName.FLOAT_CASTING
    )


def _static(quantizer: Any, _: int, io: str) -> None:
    from ai_edge_quantizer.recipe import TFLOperationName

    quantizer.add_static_config(_EVERYWHERE, TFLOperationName.ALL_SUPPORTED, 8, 8)
    quantizer.add_dynamic_config(_EVERYWHERE, TFLOperationName.EMBEDDING_LOOKUP, 8)  # tables have no static form
    # an integer quotient by what rounds to zero fails at run time
    _not_quantized(quantizer, _EVERYWHERE, TFLOperationName.DIV)
    if io == "float":
        for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
            _not_quantized(quantizer, _EVERYWHERE, end)


def _not_quantized(quantizer: Any, scope: str, kind: Any) -> None:
    from ai_edge_quantizer.recipe import AlgorithmName

    quantizer.update_quantization_recipe(scope, kind, None, AlgorithmName.NO_QUANTIZE)


_MODES: Mapping[str, Callable[[Any, int, str], None]] = {
    "dynamic": _dynamic,
    "weight-only": _weight_only,
    "float16": _float16,
    "static": _static,
}
