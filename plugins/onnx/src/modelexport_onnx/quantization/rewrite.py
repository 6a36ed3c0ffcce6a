"""Rewriting a floating-point graph: what quantizes badly as it stands is first put into another form.

`smooth` computes exactly the same, with activations whose channels are alike; `quantize_rows` and `fold` store
weights in 8 bits and compute in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .graph import Graph, drop_unused

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

#: tables and weights of fewer elements are left as they are: nothing would be saved
SMALL = 1024


# --------------------------------------------------------------------------------------- attention


def split_attention(model: Any) -> None:
    """Take the product with the weights out of ONNX Runtime's Attention: a MatMul before MultiHeadAttention.

    Its quantized form, QAttention, has one scale for the weights of queries, keys and values together; a MatMul
    is quantized a channel at a time, and smoothed.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in [node for node in model.graph.node if node.op_type == "Attention" and node.domain]:
        given = [*node.input, *[""] * 6][:6]
        kept = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        sizes = kept.pop("qkv_hidden_sizes", None)
        known = given[1] in weights and not given[4]
        if not known or set(kept) - {"num_heads", "unidirectional", "scale", "mask_filter_value"}:
            continue
        sizes = sizes or [weights[given[1]].dims[1] // 3] * 3
        split = f"{node.name}_sizes"
        model.graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), split))
        x, weight, bias, mask, _, attention_bias = given
        product, biased = (f"{node.output[0]}_{part}" for part in ("product", "biased"))
        parts = [f"{node.output[0]}_{part}" for part in "qkv"]
        made = [
            helper.make_node("MatMul", [x, weight], [product], name=f"{node.name}_product"),
            helper.make_node("Add", [product, bias], [biased], name=f"{node.name}_bias"),
            helper.make_node("Split", [biased, split], parts, name=f"{node.name}_split", axis=-1),
            helper.make_node(
                "MultiHeadAttention", [*parts, "", mask, attention_bias], list(node.output), name=node.name,
                domain="com.microsoft", **kept,
            ),
        ]  # fmt: skip
        if not bias:
            made[2].input[0] = product
            del made[1]
        _replace(model, node, made)


def split_gemm(model: Any) -> None:
    """Make a MatMul and an Add of every Gemm with constant weights: weights in blocks are MatMul's alone."""
    import numpy as np
    from onnx import helper, numpy_helper

    graph = Graph(model)
    uses = graph.uses()
    for node, index, _ in graph.weighted():
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        plain = not given.get("transA") and given.get("alpha", 1.0) == 1.0 and given.get("beta", 1.0) == 1.0
        name = node.input[index]
        if node.op_type != "Gemm" or not plain or uses[name] > 1:
            continue
        if given.get("transB"):
            turned = np.ascontiguousarray(graph.weight(name).T)
            graph.initializers[name].CopyFrom(numpy_helper.from_array(turned, name))
        output, bias = node.output[0], [*node.input, ""][2]
        product = f"{output}_product" if bias else output
        made = [helper.make_node("MatMul", list(node.input[:2]), [product], name=node.name)]
        if bias:
            made.append(helper.make_node("Add", [product, bias], [output], name=f"{node.name}_bias"))
        _replace(model, node, made)


# --------------------------------------------------------------------------------------- smoothing


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

    from .graph import probe

    rows: dict[str, list[Array]] = {name: [] for name in names}
    for values in probe(graph.model, names, samples):
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

    model, made = graph.model, []
    channels, taken = f"{name}_outlier_channels", f"{name}_outliers"
    model.graph.initializer.append(numpy_helper.from_array(out.astype(np.int64), channels))
    gather = helper.make_node("Gather", [name, channels], [taken], name=taken, axis=-1)
    place = min(_place(model, node.name) for node in nodes)
    model.graph.node.insert(place, gather)
    for node in nodes:
        weight, output = graph.weight(node.input[1]), node.output[0]
        part, product, rest = f"{node.name}_outlier_weight", f"{node.name}_outliers", f"{output}_rest"
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(weight[out]), part))
        node.output[0] = rest
        place = _place(model, node.name) + 1
        total = helper.make_node("Add", [rest, product], [output], name=f"{node.name}_with_outliers")
        model.graph.node.insert(place, total)
        model.graph.node.insert(place, helper.make_node("MatMul", [taken, part], [product], name=product))
        made.append(product)
    return made


def _place(model: Any, name: str) -> int:
    return next(i for i, node in enumerate(model.graph.node) if node.name == name)


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


# --------------------------------------------------------------------------------------- weights in 8 bits


def quantize_rows(model: Any, skip: Iterable[str] = ()) -> list[str]:
    """Store embedding tables in 8 bits, each row with a scale of its own; rows are dequantized after the lookup.

    ONNX Runtime's own quantization of Gather has one scale for the table, which costs the most of all layers.
    Returns the names of the nodes that were replaced.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    graph, done, left, tables = Graph(model), [], set(skip), set()
    for node in graph.embeddings():
        table, index = node.input
        if node.name in left or np.prod(graph.initializers[table].dims) < SMALL:
            continue
        tables.add(table)
        if f"{table}_rows" not in {tensor.name for tensor in model.graph.initializer}:
            weight = graph.weight(table)
            scale = np.maximum(np.abs(weight).max(1, keepdims=True) / 127, np.finfo(np.float32).tiny)
            rows = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
            model.graph.initializer.append(numpy_helper.from_array(rows, f"{table}_rows"))
            model.graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{table}_scales"))
        parts = [f"{node.output[0]}_{part}" for part in ("rows", "float", "scales")]
        made = [
            helper.make_node("Gather", [f"{table}_rows", index], [parts[0]], name=f"{node.name}_rows", axis=0),
            helper.make_node("Cast", [parts[0]], [parts[1]], name=f"{node.name}_float", to=1),
            helper.make_node("Gather", [f"{table}_scales", index], [parts[2]], name=f"{node.name}_scales", axis=0),
            helper.make_node("Mul", [parts[1], parts[2]], [node.output[0]], name=f"{node.name}_scaled"),
        ]
        done.append(node.name)
        _replace(model, node, made)
    drop_unused(model, tables)
    return done


def fold(model: Any, skip: Iterable[str] = (), kinds: Iterable[str] | None = None) -> list[str]:
    """Store weights in 8 bits, one scale a channel, behind a DequantizeLinear that is folded as a session loads.

    So the file is a quarter of its size, and everything is computed in float32, as fast as before. Returns the
    names of the layers whose weights these are.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    graph, done, made, left, stored = Graph(model), [], [], set(skip), set()
    for node, index, axis in graph.weighted():
        name = node.input[index]
        small = np.prod(graph.initializers[name].dims) < SMALL
        if node.name in left or small or (kinds is not None and node.op_type not in kinds):
            continue
        done.append(node.name)
        if name in stored:
            node.input[index] = f"{name}_dequantized"
            continue
        stored.add(name)
        weight = graph.weight(name)
        others = tuple(i for i in range(weight.ndim) if i != axis)
        scale = np.maximum(np.abs(weight).max(others) / 127, np.finfo(np.float32).tiny).astype(np.float32)
        shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
        codes = np.clip(np.rint(weight / scale.reshape(shape)), -127, 127).astype(np.int8)
        model.graph.initializer.append(numpy_helper.from_array(codes, f"{name}_int8"))
        model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        inputs, output = [f"{name}_int8", f"{name}_scale"], f"{name}_dequantized"
        made.append(helper.make_node("DequantizeLinear", inputs, [output], name=f"{name}_dequantize", axis=axis))
        node.input[index] = output
    for node in reversed(made):
        model.graph.node.insert(0, node)
    drop_unused(model, stored)
    return list(dict.fromkeys(done))


def _replace(model: Any, node: Any, made: Sequence[Any]) -> None:
    place = next(i for i, candidate in enumerate(model.graph.node) if candidate.name == node.name)
    del model.graph.node[place]
    for offset, new in enumerate(made):
        model.graph.node.insert(place + offset, new)


def weight_ranges(graph: Graph) -> Mapping[str, tuple[float, float]]:
    """Smallest and largest element of each layer's first weight."""
    found: dict[str, tuple[float, float]] = {}
    for node, index, _ in graph.weighted():
        weight = graph.weight(node.input[index])
        found.setdefault(node.name, (float(weight.min()), float(weight.max())))
    return found
