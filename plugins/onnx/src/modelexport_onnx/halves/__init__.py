"""float32 → float16 or bfloat16, node by node; inputs and outputs of the model stay float32.

ranges.py   types of tensors, and how large their values get
places.py   which inputs and outputs of which nodes become half
casts.py    the graph rewritten
budget.py   what rounds badly stays in float32 until the model is within its budget

ONNX Runtime's own converter (`onnxruntime.transformers.float16`) is not used: two nodes kept in float32 that read
one tensor, or one node that reads it twice, make it write an invalid model (1.31), it needs shapes that ONNX can't
infer through fused operators, and it knows no bfloat16.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from modelexport.errors import ConversionError, OptionError
from modelexport.toolkit import GoldenCase, failed, scratch, translated

from .. import files, graph
from ..rounding import Half
from . import casts, places, ranges

#: a model, the types of its tensors, cases → the largest magnitude of each tensor: `ranges.peaks`
Measure: TypeAlias = Callable[[Any, Mapping[str, str], Sequence[GoldenCase]], Mapping[str, float]]


def convert(
    model: Any,
    dtype: Half,
    cases: Sequence[GoldenCase],
    provider: str | None = "CPUExecutionProvider",
    scales: bool = False,
    keep: Mapping[str, str] | None = None,
    measure: Measure = ranges.peaks,
) -> tuple[Any, dict[str, str]]:
    """A copy of an `onnx.ModelProto` that computes in `dtype`, and why each node kept in float32 is.

    The second goes from a node's name to the reason. `provider` is ONNX Runtime's that it is for, None where
    another runtime is to compute it. With `scales`, those of quantizers become half too, which keeps casts from
    between them and what they quantize; nodes of `keep` stay for the reasons given. `measure` tells how large
    values get. Raises ConversionError when ONNX Runtime can't run the float32 model on `cases`, OptionError when
    `provider` can't compute matrix products in `dtype`, or no operator takes it.
    """
    copied = graph.copy(model)
    casts.lift_constants(copied)
    graph.name_nodes(copied)
    casts.soften_masks(copied, dtype)
    what = f"ONNX Runtime can't run the float32 model, which {dtype} is measured on"
    with translated(failed(what, "leave precision=float32")):
        types = ranges.tensor_types(copied)
        peaks = measure(copied, types, cases)
    plan = places.plan(copied, dtype, types, peaks, scales, keep or {})
    if provider is not None and dtype == "bfloat16":
        places.keep_without_kernel(copied, plan, dtype, provider)
    if not plan.ports:
        raise OptionError(f"no operator of the model takes {dtype}", "leave precision=float32")
    casts.rewrite(copied, dtype, types, plan.ports)
    if provider is not None:
        _check_loads(copied, dtype)
    return copied, plan.kept


def _check_loads(model: Any, dtype: Half) -> None:
    """Load the model in a process of its own: ONNX Runtime's optimizer crashes on some graphs in half precision
    (1.31: an LSTM before a product, at a dynamic batch size), and would take this one with it.

    Raises ConversionError for a crash; what it merely refuses, the caller finds out.
    """
    code = "import sys, onnxruntime as o; o.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"
    with scratch("halves") as folder:
        file = folder / files.FILE
        files.save(model, file)
        done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, check=False)
    if done.returncode < 0:
        raise ConversionError(
            f"ONNX Runtime crashes as it loads the model in {dtype} (signal {-done.returncode})",
            "optimize it in float32, or quantize it to int8",
        )
