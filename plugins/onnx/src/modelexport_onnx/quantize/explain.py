"""The account of a quantized model: each layer's ranges, error and share of the time, and what looks wrong."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import QuantizedLayer
from modelexport.toolkit import scratch

from .. import contents, session
from ..graph import Graph, probe
from .recipes import Recipe
from .simulate import Sensitivity, Unit
from .weights import weight_ranges

if TYPE_CHECKING:
    from modelexport.contract import Arrays

#: calls over which a profile is taken
PROFILED = 7

#: how many times larger than the smallest part of a concatenation its largest may be
MIXED = 16.0

#: share of a range's width by which values may lie outside it without a word
SLACK = 0.1

#: tensors, layers… that one warning names
NAMED = 5

Range = tuple[float, float]


def layers(
    units: Sequence[Unit],
    recipe: Recipe,
    left: Collection[str],
    graph: Graph,
    seen: Mapping[str, Range],
    sensitivities: Mapping[str, Sensitivity],
    times: Mapping[str, Mapping[str, float]],
) -> tuple[QuantizedLayer, ...]:
    """One row a unit, in the order of the graph. `times`: seconds a layer, in "float", "all" and "final"."""
    ranges, elements = weight_ranges(graph), _elements(graph)
    nodes = {node.name: node for node in graph.model.graph.node}
    total = sum(times["final"].values()) or 1.0
    rows = []
    for unit in units:
        sensitivity, node = sensitivities.get(unit.name), nodes[unit.name]
        slower, faster, final = (times[form].get(unit.name) for form in ("float", "all", "final"))
        rows.append(
            QuantizedLayer(
                name=unit.name,
                kind=unit.kind,
                precision=_precision(recipe, unit, left),
                weight_range=ranges.get(unit.name),
                activation_range=next((seen[name] for name in node.input if name in seen), None),
                sqnr=round(sensitivity.own, 1) if sensitivity else None,
                output_sqnr=round(sensitivity.output, 1) if sensitivity else None,
                latency=final / total if final is not None else None,
                # A layer that ONNX Runtime fuses with its neighbours in 8 bits takes no time of its own there.
                cost=(slower - (faster or 0.0)) / total if slower is not None else None,
                bytes_saved=0 if unit.name in left and recipe.fallback == "float" else elements[unit.name] * 3,
                note=contents.origin(node),
            )
        )
    return tuple(rows)


def left(graph: Graph, reasons: Mapping[str, str]) -> tuple[QuantizedLayer, ...]:
    """A row for each layer that can't be quantized, with the reason."""
    ranges = weight_ranges(graph)
    kinds = {node.name: node.op_type for node in graph.model.graph.node}
    return tuple(
        QuantizedLayer(name, kinds[name], "float32", weight_range=ranges.get(name), note=why)
        for name, why in reasons.items()
    )


def _elements(graph: Graph) -> Counter[str]:
    """How many elements the first weight of each layer has."""
    elements: Counter[str] = Counter()
    for node, index, _ in reversed(graph.weighted()):
        elements[node.name] = math.prod(graph.initializers[node.input[index]].dims)
    return elements


def _precision(recipe: Recipe, unit: Unit, left: Collection[str]) -> str:
    if unit.name in left:
        blocks = recipe.fallback == "blockwise" and unit.kind == "MatMul"
        return f"int{recipe.bits} weights in blocks of {recipe.block_size}" if blocks else "float32"
    if unit.kind == "Gather" or recipe.kind == "folded":
        return "int8 weights"
    if recipe.kind == "blockwise":
        whole = unit.kind != "MatMul"
        return "int8 weights" if whole else f"int{recipe.bits} weights in blocks of {recipe.block_size}"
    return f"{recipe.weight} weights, {recipe.activation} activations"


# --------------------------------------------------------------------------------------- values seen


def observe(model: Any, tensors: Sequence[str], samples: Iterable[Arrays]) -> dict[str, Range]:
    """Smallest and largest finite value of each tensor over the samples."""
    import numpy as np

    ranges: dict[str, Range] = {}
    for values in probe(model, tensors, samples):
        for name, array in values.items():
            finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array[:0]
            if finite.size:
                low, high = ranges.get(name, (np.inf, -np.inf))
                ranges[name] = (min(low, float(finite.min())), max(high, float(finite.max())))
    return ranges


def activations(graph: Graph, units: Sequence[Unit]) -> list[str]:
    """What the units take from other nodes or from outside, and every part of every concatenation."""
    floats = {v.name for v in (*graph.model.graph.value_info, *graph.model.graph.input) if _is_float(v)}
    names, wanted = {unit.name for unit in units}, []
    for node in graph.model.graph.node:
        if node.name in names or node.op_type == "Concat":
            wanted += [name for name in node.input if name in floats and name not in graph.initializers]
    return list(dict.fromkeys(wanted))


def _is_float(value: Any) -> bool:
    return bool(value.type.tensor_type.elem_type == 1)


# --------------------------------------------------------------------------------------- warnings


def warnings(
    graph: Graph, recipe: Recipe, left: Collection[str], seen: Mapping[str, Range], ranges: Mapping[str, Range]
) -> list[str]:
    """What a person should look at. `left`: the nodes in float32; `ranges`: those a static model was given;
    `seen`: on other samples."""
    lines = [*_dead(graph)]
    if recipe.kind == "static":
        lines += [*_mixed(graph, left, seen), *_uncovered(seen, ranges)]
    return lines


def _mixed(graph: Graph, left: Collection[str], seen: Mapping[str, Range]) -> Iterable[str]:
    """A tensor has one scale: parts of very different size share it badly, such as boxes beside scores."""
    for node in graph.model.graph.node:
        sizes = {name: max(map(abs, seen[name])) for name in node.input if name in seen}
        if node.op_type != "Concat" or len(sizes) < 2 or node.name in left:
            continue
        large, small = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
        if sizes[large] > MIXED * max(sizes[small], 1e-12):
            yield (
                f"{node.output[0]!r} mixes ranges under one scale: {large!r} reaches {sizes[large]:.3g}, "
                f"{small!r} only {sizes[small]:.3g}; return them as two outputs, or give -k exclude={node.name}"
            )


def _dead(graph: Graph) -> Iterable[str]:
    import numpy as np

    for node, index, axis in graph.weighted():
        weight = np.abs(graph.weight(node.input[index]))
        sizes = weight.max(tuple(i for i in range(weight.ndim) if i != axis))
        dead = int((sizes <= 1e-7 * sizes.max(initial=0.0)).sum())
        if dead and node.op_type != "MatMul":
            yield f"{node.name}: {dead} of {sizes.size} output channels have no weights that count"


def _uncovered(seen: Mapping[str, Range], ranges: Mapping[str, Range]) -> Iterable[str]:
    outside = []
    for name, (low, high) in seen.items():
        if name not in ranges:
            continue
        least, most = ranges[name]
        excess = max(least - low, high - most) / max(most - least, 1e-12)
        if excess > SLACK:
            outside.append((excess, name, low, high, least, most))
    if outside:
        worst = sorted(outside, reverse=True)[:NAMED]
        named = "; ".join(
            f"{name!r} reaches {low:.3g}..{high:.3g}, its range is {least:.3g}..{most:.3g}"
            for _, name, low, high, least, most in worst
        )
        yield (
            f"{len(outside)} activations saturate: values outside the calibrated range were seen on samples that "
            f"were not calibrated on: {named}; calibrate on more data (--samples), or with -k calibrator=minmax"
        )


# --------------------------------------------------------------------------------------- time


def profile(
    model: Any, inputs: Arrays, names: Iterable[str], config: Mapping[str, str] | None
) -> dict[str, float]:
    """Seconds of one call that each of the nodes called `names` takes, by ONNX Runtime's own profiler.

    A node that became several, or a part of one, is found by its name, which ONNX Runtime keeps in theirs; what
    belongs to none of them is under "".
    """
    with scratch("profile") as folder:
        runtime = session.open_model(model, config=config, profile=folder / "profile")
        for _ in range(PROFILED):
            runtime.run(None, inputs)
        events = json.loads(Path(runtime.end_profiling()).read_text())
    kernels = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    durations: dict[str, list[float]] = {}
    for event in kernels:
        durations.setdefault(event["name"], []).append(event["dur"] * 1e-6)
    known, seconds = sorted(names, key=len, reverse=True), dict[str, float]()
    for kernel, taken in durations.items():
        owner = next((name for name in known if kernel.startswith(name)), "")
        seconds[owner] = seconds.get(owner, 0.0) + statistics.median(taken)
    return seconds
