"""Smoothing: the same computed, with activations whose channels are alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelexport.toolkit import steps

from ..graph import Graph, place_of, probe

if TYPE_CHECKING:
    from modelexport.contract import Array, Arrays

#: how far a channel's size moves from the activation to the weight, tried one after another
STRENGTHS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

#: dB that smoothing must gain for a layer to be worth an extra multiplication
WORTH = 1.0

#: channels of an activation that may be taken out and computed in float32, and the dB that this must gain
OUTLIERS, OUTLIERS_WORTH = 4, 2.0

#: rows of an activation that are looked at, per sample and in all
ROWS_PER_SAMPLE, ROWS = 400, 2400


@dataclass(frozen=True)
class Smoothing:
    """What was done: dB gained by activation, and the nodes made for outliers, which must stay in float32."""

    gains: Mapping[str, float] = field(default_factory=dict)
    outliers: tuple[str, ...] = ()


def smooth(graph: Graph, samples: Iterable[Arrays], skip: Iterable[str] = ()) -> Smoothing:
    """Even out the channels of what MatMul and Gemm multiply by constant matrices. The graph is changed in place.

    One channel that is twenty times larger than the others, as LayerNorm and GELU in transformers have them,
    leaves four of eight bits to all others. So an activation is divided by a factor a channel, and the weights
    multiplied by it: SmoothQuant's (Xiao et al. 2023, equation 4), `max|x|^a / max|w|^(1-a)`, with the `a` that
    gives the product the best signal-to-noise ratio on `samples`. Where a channel or two are still far larger,
    they are multiplied in float32 beside the rest, as in LLM.int8() (Dettmers et al. 2022).
    """
    groups = _groups(graph, set(skip))
    values = _collect(graph, list(groups), samples)
    gains: dict[str, float] = {}
    outliers: list[str] = []
    for name, nodes in groups.items():
        if name not in values:
            continue
        weights = [_oriented(graph, node) for node in nodes]
        factors, gain = _best_factors(values[name], weights)
        products = all(node.op_type == "MatMul" for node in nodes)
        if products and values[name].shape[1] > 8 * OUTLIERS:
            out, others, more = _without_outliers(values[name], weights)
            if more >= gain + OUTLIERS_WORTH:
                outliers += _take_out(graph, name, nodes, out)
                factors, gain = others, more
        if gain >= WORTH:
            _apply(graph, name, nodes, factors)
            gains[name] = round(gain, 1)
    return Smoothing(gains, tuple(outliers))


def _groups(graph: Graph, skip: set[str]) -> dict[str, list[Any]]:
    """Activation → the layers that multiply it by a constant matrix which nothing else uses."""
    uses = graph.uses()
    groups: dict[str, list[Any]] = {}
    for node, index, _ in graph.weighted():
        if node.op_type in ("MatMul", "Gemm") and node.name not in skip:
            plain = len(graph.initializers[node.input[index]].dims) == 2 and uses[node.input[index]] == 1
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            if plain and not transposed:
                groups.setdefault(node.input[0], []).append(node)
    return groups


def _collect(graph: Graph, names: Sequence[str], samples: Iterable[Arrays]) -> dict[str, Array]:
    """Rows of each activation, as a matrix."""
    import numpy as np

    rows: dict[str, list[Array]] = {name: [] for name in names}
    for values in steps(probe(graph.model, names, samples), "look at the channels of activations"):
        for name, array in values.items():
            flat = array.reshape(-1, array.shape[-1])
            if array.ndim >= 2 and np.isfinite(flat).all() and sum(map(len, rows[name])) < ROWS:
                rows[name].append(flat[:: max(1, len(flat) // ROWS_PER_SAMPLE)][:ROWS_PER_SAMPLE])
    return {name: np.concatenate(parts) for name, parts in rows.items() if parts}


def _transposed(node: Any) -> bool:
    return node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)


def _oriented(graph: Graph, node: Any) -> Array:
    """The weight as (inputs, outputs)."""
    weight = graph.weight(node.input[1])
    return weight.T if _transposed(node) else weight


def _best_factors(x: Array, weights: Sequence[Array]) -> tuple[Array, float]:
    """The factors with the best signal-to-noise ratio of the product in 8 bits, and what they gain in dB."""
    import numpy as np

    w = np.concatenate(weights, axis=1)
    y = x @ w
    sizes, tiny = np.abs(x).max(0), np.finfo(np.float32).tiny
    # A channel that is silent in the samples may speak later: it counts as one of a tenth of the usual size.
    sizes = np.maximum(sizes, sizes.mean() / 10)
    wanted = np.maximum(np.abs(w).max(1), 1e-8)
    ones = np.ones_like(sizes)
    candidates = [ones]
    for strength in STRENGTHS:
        factors = np.maximum(sizes, 1e-8) ** strength / wanted ** (1 - strength)
        factors = factors / np.exp(np.log(np.maximum(factors, tiny)).mean())
        candidates += [factors, np.maximum(factors, 1.0)]
    noises = [float(((_rounded(x / f) @ _rounded_columns(w * f[:, None]) - y) ** 2).sum()) for f in candidates]
    best = int(np.argmin(noises))
    gain = 10 * np.log10(max(noises[0], 1e-30) / max(noises[best], 1e-30))
    return candidates[best].astype(np.float32), float(gain)


def _without_outliers(x: Array, weights: Sequence[Array]) -> tuple[Array, Array, float]:
    """The largest channels, the factors for the others (infinite for these), and what both gain in dB."""
    import numpy as np

    out = np.sort(np.argsort(-np.abs(x).max(0), kind="stable")[:OUTLIERS])
    w = np.concatenate(weights, axis=1)
    rest, kept = x.copy(), [weight.copy() for weight in weights]
    rest[:, out] = 0
    for weight in kept:
        weight[out] = 0
    factors, gain = _best_factors(rest, kept)
    before = float(((_rounded(x) @ _rounded_columns(w) - x @ w) ** 2).sum())
    inner = np.concatenate(kept, axis=1)
    after = float(((_rounded(rest) @ _rounded_columns(inner) - rest @ inner) ** 2).sum())
    factors[out] = np.inf
    return out, factors, gain + float(10 * np.log10(max(before, 1e-30) / max(after, 1e-30)))


def _take_out(graph: Graph, name: str, nodes: Sequence[Any], out: Array) -> list[str]:
    """Multiply the channels `out` of an activation by their part of the weights, in nodes of their own.

    `_apply` then divides these channels by infinity. Returns the names of the products that must stay as they are.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    model, products = graph.model, []
    channels, taken = f"{name}_outlier_channels", f"{name}_outliers"
    model.graph.initializer.append(numpy_helper.from_array(out.astype(np.int64), channels))
    gather = helper.make_node("Gather", [name, channels], [taken], name=taken, axis=-1)
    place = min(place_of(model, node.name) for node in nodes)
    model.graph.node.insert(place, gather)
    for node in nodes:
        weight, output = graph.weight(node.input[1]), node.output[0]
        part, product, rest = f"{node.name}_outlier_weight", f"{node.name}_outliers", f"{output}_rest"
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(weight[out]), part))
        node.output[0] = rest
        place = place_of(model, node.name) + 1
        total = helper.make_node("Add", [rest, product], [output], name=f"{node.name}_with_outliers")
        model.graph.node.insert(place, total)
        model.graph.node.insert(place, helper.make_node("MatMul", [taken, part], [product], name=product))
        products.append(product)
    return products


def _rounded(x: Array) -> Array:
    """Through unsigned 8 bits and back, one scale for all, as DynamicQuantizeLinear does."""
    import numpy as np

    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = (high - low) / 255 or 1.0
    zero = round(-low / scale)
    return np.asarray((np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale)


def _rounded_columns(w: Array) -> Array:
    """Through signed 8 bits and back, one scale a column."""
    import numpy as np

    scale = np.abs(w).max(0, keepdims=True) / 127
    scale[scale == 0] = 1
    return np.asarray(np.rint(w / scale) * scale)


def _apply(graph: Graph, name: str, nodes: Sequence[Any], factors: Array) -> None:
    import numpy as np
    from onnx import helper, numpy_helper

    smoothed, constant = f"{name}_smoothed", f"{name}_smoothing"
    graph.model.graph.initializer.append(numpy_helper.from_array((1 / factors).astype(np.float32), constant))
    node = helper.make_node("Mul", [name, constant], [smoothed], name=f"{name}_smooth")
    names = {node.name for node in nodes}
    first = next(i for i, candidate in enumerate(graph.model.graph.node) if candidate.name in names)
    graph.model.graph.node.insert(first, node)
    for layer in nodes:
        weight = graph.weight(layer.input[1])
        kept = np.where(np.isinf(factors), 0, factors)
        scaled = weight * (kept[None, :] if _transposed(layer) else kept[:, None])
        tensor = numpy_helper.from_array(scaled.astype(np.float32), layer.input[1])
        graph.initializers[layer.input[1]].CopyFrom(tensor)
        layer.input[0] = smoothed
