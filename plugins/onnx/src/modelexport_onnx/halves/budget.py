"""float16 and bfloat16 for a device that has them, verified with every tensor rounded.

What is over the budget then is mostly a few layers whose weights round badly: those stay in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modelexport.contract import Session
from modelexport.toolkit import GoldenCase, Verdict, compare, stage, steps, verdict

from .. import graph, rounding, session
from ..rounding import Half
from . import Measure, convert, ranges

#: ONNX's convolutions know bfloat16, its quantizers scales in half precision, from these opsets on
_OPSETS = {"float16": 19, "bfloat16": 22}

#: scales smaller than this would vanish in float16, or have a reciprocal that does not fit
SMALLEST_SCALE = 2.0**-15

#: share of the budget that the layers in half precision may use together, as the roundings of their weights say:
#: at first, and where that was too much
SHARES = (0.8, 0.4)


def halved(
    model: Any,
    dtype: Half,
    cases: Sequence[GoldenCase],
    keep: Mapping[str, str] | None = None,
    measure: Measure = ranges.peaks,
) -> tuple[Any, dict[str, str]]:
    """`model` with everything that isn't quantized in `dtype`, scales included, and why other nodes are not.

    `cases` tell what would overflow, by `measure`; nodes of `keep` stay for the reasons given.
    """
    quantized = any(node.op_type == "DequantizeLinear" for node in model.graph.node)
    if quantized or dtype == "bfloat16":
        model = graph.upgraded(model, _OPSETS[dtype])
    if quantized:
        _raise_scales(model)
    return convert(model, dtype, cases, None, scales=quantized, keep=keep, measure=measure)


def within_budget(
    model: Any, dtype: Half, cases: Sequence[GoldenCase], opened: Callable[[Any], Session]
) -> tuple[Any, dict[str, str], Verdict]:
    """`halved`, with layers whose weights round badly in float32, so far as that brings it within its budget.

    `opened` gives a Session on a model in memory. The verdict is over the answers of `cases`, with every half
    rounded; it may say that it took more than a few layers, and the model isn't within the budget.
    """
    stage(f"cast to {dtype}")
    measured: list[Mapping[str, float]] = []

    def measure(*model_and_cases: Any) -> Mapping[str, float]:
        """Once for all casts, which are of one model: they differ in what stays in float32."""
        if not measured:
            measured.append(ranges.peaks(*model_and_cases))
        return measured[0]

    def judged(keep: Mapping[str, str]) -> tuple[Any, dict[str, str], Verdict]:
        cast, kept = halved(model, dtype, cases, keep, measure)
        return cast, kept, verdict(opened(rounding.simulated(cast, dtype)), cases, dtype)

    best = judged({})
    costs: dict[str, float] = {}
    for share in SHARES:
        worst = best[2].worst
        if best[2].ok or worst is None:
            break
        case = next(case for case in cases if case.name == worst.case.removesuffix(", second call"))
        for name, used in _costs(model, dtype, case).items():
            costs[name] = max(used, costs.get(name, 0.0))
        best = judged(_kept(model, costs, share))
    return best


def _kept(model: Any, costs: Mapping[str, float], share: float) -> dict[str, str]:
    """Why layers stay in float32 for the others to use `share` of the budget: the costliest, and who reads them.

    A convolution alone between two casts is computed in half by TensorRT, weights included (RTX 1.7).
    """
    ranked = sorted(costs, key=lambda name: -costs[name])
    count = next(n for n in range(len(ranked) + 1) if sum(costs[name] ** 2 for name in ranked[n:]) <= share**2)
    kept = {
        name: f"its weights round badly: alone, that uses {costs[name]:.2g} of the budget"
        for name in ranked[:count]
    }
    outputs = {node.output[0]: node.name for node in model.graph.node if node.name in kept}
    for node in model.graph.node:
        read = next((outputs[name] for name in node.input if name in outputs), None)
        if read is not None and node.name not in kept:
            kept[node.name] = f"it reads {read}, which stays in float32"
    return kept


def _costs(model: Any, dtype: Half, case: GoldenCase) -> dict[str, float]:
    """Layers with weights, and the share of the budget that each uses on `case` with only its weights rounded.

    Initializers that are inputs as well can be replaced in a call: one model is loaded, for all of them.
    """
    import ml_dtypes
    import numpy as np
    from onnx import helper

    kind = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    copied = graph.copy(model)
    layers = graph.Graph(copied)
    weights = {node.name: node.input[index] for node, index, _ in layers.weighted()}
    for name in dict.fromkeys(weights.values()):
        copied.graph.input.append(helper.make_tensor_value_info(name, 1, list(layers.initializers[name].dims)))
    runtime = session.open_model(copied, optimization="basic")
    call = session.caller(runtime, [value.name for value in runtime.get_outputs()])
    costs = {}
    for node, name in steps(weights.items(), f"measure what {dtype} costs each layer"):
        outputs = call({**case.inputs, name: layers.weight(name).astype(kind).astype(np.float32)})
        compared = (compare(key, outputs.get(key), want, dtype) for key, want in case.outputs.items())
        costs[node] = max(each.used for each in compared)
    return costs


def _raise_scales(model: Any) -> None:
    import numpy as np
    from onnx import numpy_helper

    quantizers = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    scales = {node.input[1] for node in quantizers}
    for tensor in model.graph.initializer:
        if tensor.name in scales:
            raised = np.maximum(numpy_helper.to_array(tensor), np.float32(SMALLEST_SCALE))
            tensor.CopyFrom(numpy_helper.from_array(raised, tensor.name))
