"""What became of a checkpoint's layers: for the manifest, and for the report of a quantization."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from modelexport.contract import CompiledLayer, QuantizationReport, QuantizedLayer

from .modelopt import Recipe


def layers(names: Iterable[str], precision: Mapping[str, str], dtype: str) -> tuple[CompiledLayer, ...]:
    """The linear layers `names`, each in its own `precision`, or else in `dtype`."""
    return tuple(CompiledLayer(name, "linear", precision.get(name, dtype)) for name in names)


def report(
    recipe: Recipe,
    ranges: Mapping[str, tuple[float, float]],
    quantized: Sequence[str],
    stored: Mapping[str, Any],
    dtype: str,
) -> QuantizationReport:
    """What was done by `recipe`, layer by layer.

    `ranges` holds the range of every linear layer's weight before, `quantized` the layers that the format took,
    `stored` the checkpoint's tensors, and `dtype` is that of the layers that stayed.
    """
    format, done = recipe.format, set(quantized)
    taken = [
        QuantizedLayer(name, "Linear", format.name, ranges.get(name), bytes_saved=_saved(stored, name, dtype))
        for name in quantized
    ]
    left = [
        QuantizedLayer(name, "Linear", dtype, span, note="the format leaves it as it is")
        for name, span in ranges.items()
        if name not in done
    ]
    settings = {key: value for key, value in asdict(recipe).items() if key != "format"}
    return QuantizationReport(
        format.name, {"algorithm": format.algorithm, **settings}, (*taken, *left), calibrated=format.saturates
    )


def _saved(stored: Mapping[str, Any], name: str, dtype: str) -> int:
    """Bytes that a layer's weight got smaller by, its scales counted."""
    weight = stored[f"{name}.weight"]
    packed = 2 if str(weight.dtype) == "torch.uint8" else 1
    own = sum(value.nbytes for key, value in stored.items() if key.startswith(f"{name}."))
    return int(weight.numel() * packed * (4 if dtype == "float32" else 2) - own)
