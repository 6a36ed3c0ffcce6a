"""Ranges of activations, which static quantization takes from samples."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact
from modelexport.errors import ConversionError, first_line
from modelexport.toolkit import load_golden, steps

from .. import session
from ..backend import quiet

if TYPE_CHECKING:
    from modelexport.contract import Arrays, Calibration

#: samples that ranges are taken from, at most
_SAMPLES = 256


def observe(artifact: Artifact, calibration: Calibration | None) -> dict[str, Any]:
    """Tensor → its least and greatest value over the samples, or over the golden cases where there are none.

    Raises ConversionError where ai-edge-quantizer can't run the file.
    """
    samples = calibration or [case.inputs for case in load_golden(artifact.golden).cases]
    convert = session.file_inputs(artifact)
    observer = _observer(artifact)
    for sample in steps(itertools.islice(samples, _SAMPLES), "calibrate", min(len(samples), _SAMPLES)):
        _run(observer, *convert(sample))
    return _shared(observer.get_model_qsvs(), [f"{key}/" for key in artifact.details.get("signatures", {})])


def _observer(artifact: Artifact) -> Any:
    """ai-edge-quantizer's own session on the file, which remembers what each tensor's values lie between."""
    with quiet():
        from ai_edge_quantizer import calibrator
        from ai_edge_quantizer.utils.qsv_utils import min_max_update

        # by default ranges are averages over time, which cut off what only some samples reach
        return calibrator.Calibrator(str(artifact.entry_path), num_threads=1, qsv_update_func=min_max_update)


def _run(observer: Any, key: str, arrays: Arrays) -> None:
    with quiet():
        from ai_edge_quantizer import recipe, recipe_manager

        every = recipe_manager.RecipeManager()
        every.load_quantization_recipe(recipe.static_wi8_ai8())
        try:
            observer.calibrate({key: [arrays]}, every)
        except Exception as error:
            raise ConversionError(
                f"calibration failed: {type(error).__name__}: {first_line(error)}", "--debug shows the trace"
            ) from error


def _shared(ranges: Mapping[str, Any], prefixes: Sequence[str]) -> dict[str, Any]:
    """Ranges for the tensors of every signature, from the samples of all: these are the same at other sizes."""
    import numpy as np

    widest: dict[str, Any] = {}
    for tensor, seen in ranges.items():
        name = next((tensor.removeprefix(p) for p in prefixes if tensor.startswith(p)), tensor)
        known = widest.setdefault(name, dict(seen))
        if "min" in seen:
            known["min"] = np.minimum(known["min"], seen["min"])
            known["max"] = np.maximum(known["max"], seen["max"])
    return {f"{prefix}{name}": seen for prefix in ("", *prefixes) for name, seen in widest.items()}
