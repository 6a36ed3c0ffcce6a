"""Which operators lose most to fewer bits: a search for what to leave out begins with these."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.toolkit import steps

from .. import files, session
from ..backend import quiet
from . import attempt
from .attempt import Work

if TYPE_CHECKING:
    from modelexport.contract import Goal


def fragile(work: Work, path: Path, goal: Goal) -> list[str]:
    """Operators by what they write, those first that lose most.

    In mode static, kinds of operators come by what they cost when they alone are quantized (`path` holds the
    trials), and within a kind by what rounding leaves of their activations; else layers by what it leaves of
    their weights.
    """
    noise = _activation_noise(work, goal) if work.mode == "static" else _weight_noise(work)
    kinds = {name: files.operator_name(work.model, op) for name, op in work.operators.items()}
    costs = _costs(work, path, goal, kinds, {kinds[name] for name in noise}) if work.mode == "static" else {}
    ranked = sorted(noise, key=lambda name: (-costs.get(kinds[name], 0.0), -noise[name]))
    return [name for name in ranked if name not in work.excluded]


def _costs(work: Work, path: Path, goal: Goal, kinds: Mapping[str, str], tried: set[str]) -> Mapping[str, float]:
    """Kind of operator → how far the score falls when only operators of that kind are quantized."""
    costs = {}
    for kind in steps(sorted(tried), "quantize each kind of operator alone"):
        attempt.write(work.excluding(name for name in kinds if kinds[name] != kind), path)
        costs[kind] = attempt.drop(work, path, goal)
    return costs


def _weight_noise(work: Work) -> dict[str, float]:
    """Layer → the power of its weight's rounding error, relative to the weight's."""
    import numpy as np

    noise = {}
    for name, layer in work.layers.items():
        rounding = layer.weight - _rounded(layer.weight, np.abs(layer.weight).max() / (2 ** (work.bits - 1) - 1))
        noise[name] = float((rounding**2).sum() / max((layer.weight**2).sum(), 1e-30))
    return noise


def _activation_noise(work: Work, goal: Goal) -> dict[str, float]:
    """Operator → the rounding error of the tensor that suffers most, of those it reads and writes."""
    tensor_noise = _tensor_noise(work, goal)
    graph = work.model.subgraphs[0]
    noise = {}
    for name, operator in work.operators.items():
        tensors = [graph.tensors[i].name.decode() for i in (*operator.inputs, *operator.outputs) if i >= 0]
        if losses := [tensor_noise[tensor] for tensor in tensors if tensor in tensor_noise]:
            noise[name] = max(losses)
    return noise


def _tensor_noise(work: Work, goal: Goal) -> dict[str, float]:
    """Tensor → what rounding to 8 bits of its calibrated range adds, over the typical size of a value.

    Typical is the geometric mean: a few values far out make the range, and must not hide what that costs.
    """
    import numpy as np

    noise = {}
    for name, values in _activations(work, goal).items():
        seen = work.ranges.get(name)
        if seen is None or "min" not in seen:
            continue
        low, high = min(float(np.min(seen["min"])), 0.0), max(float(np.max(seen["max"])), 0.0)
        rounding = values - _rounded(np.clip(values, low, high), (high - low) / 255)
        sizes = np.abs(values[values != 0])
        typical = float(np.exp(np.log(sizes).mean())) if sizes.size else 1.0
        noise[name] = float(np.sqrt((rounding**2).mean())) / max(typical, 1e-30)
    return noise


def _activations(work: Work, goal: Goal) -> dict[str, Any]:
    """Every float32 tensor's values on the first sample, as float64, by its name in the first signature."""
    import numpy as np

    key, arrays = session.file_inputs(work.artifact)(goal.samples[0])
    with quiet():
        from ai_edge_litert.interpreter import Interpreter

        loaded = Interpreter(str(work.artifact.entry_path), experimental_preserve_all_tensors=True)
    runner = loaded.get_signature_runner(key)
    runner(**arrays)
    graph = runner._subgraph_index
    return {
        detail["name"].removeprefix(f"{key}/"): np.asarray(loaded.get_tensor(detail["index"], graph), np.float64)
        for detail in loaded.get_tensor_details(graph)
        if detail["dtype"] is np.float32
    }


def _rounded(values: Any, step: float) -> Any:
    import numpy as np

    step = max(float(step), 1e-30)
    return np.rint(values / step) * step
