"""Rewriting a graph into one that computes the same in fewer operators.

`simplify` is onnxslim's work. `fuse` is onnxscript's, whose patterns are made for what torch.onnx writes: it turns
decomposed attention with any mask into ONNX Runtime's Attention. `fuse_further` is ONNX Runtime's own optimizer,
whose patterns are older graphs'. Each may fail on a graph that it doesn't expect, so the caller decides what
that means; and none is trusted: what they return is compared and timed.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from .. import backend, contents, graph

#: operators whose presence makes a graph a transformer for ONNX Runtime's optimizer
_NORMALIZATIONS = {"LayerNormalization", "SkipLayerNormalization", "ReduceMean"}
_ATTENTIONS = {"Softmax", "Attention", "MultiHeadAttention"}


def simplify(model: Any) -> Any:
    """Fold constants, remove what changes nothing or is computed twice."""
    import onnxslim

    with backend.rewriting():
        return onnxslim.slim(graph.copy(model))


def fuse(model: Any) -> Any:
    """Fuse attention, LayerNorm with the sum before it, and GELU with its bias into ONNX Runtime's operators.

    Heads and sizes come from the graph's own shapes, so batch and sequence stay dynamic.
    """
    import onnx_ir
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    with backend.rewriting():
        fused, _ = optimize_for_ort(onnx_ir.from_proto(model))
        return onnx_ir.to_proto(fused)


def for_cpu(model: Any) -> Any | None:
    """The model without SkipLayerNormalizations, constants folded; None when it normalizes nothing.

    ONNX Runtime's CPU kernel of SkipLayerNormalization takes several times as long as Add and LayerNormalization
    (benchmarks/skip_normalization.py), and ONNX Runtime fuses these two by itself as it loads a model
    whose shapes it knows: so the shapes between inputs and outputs are left out as well.
    """
    if not any(node.op_type in ("SkipLayerNormalization", "LayerNormalization") for node in model.graph.node):
        return None
    apart = graph.copy(model)
    take_apart(apart)
    apart = simplify(apart)
    del apart.graph.value_info[:]
    return apart


def take_apart(model: Any) -> None:
    """Make Add and LayerNormalization of every SkipLayerNormalization, in place."""
    from onnx import helper

    nodes = list(model.graph.node)
    used = {name for node in nodes for name in node.input} | {value.name for value in model.graph.output}
    written: list[Any] = []
    for node in nodes:
        if node.op_type != "SkipLayerNormalization" or used & set(filter(None, node.output[1:3])):
            written.append(node)
            continue
        x, skip, scale, shift, bias = [*node.input, "", ""][:5]
        total = node.output[3] if len(node.output) > 3 and node.output[3] else f"{node.output[0]}_sum"
        if bias:
            written.append(helper.make_node("Add", [x, bias], [f"{total}_biased"], name=f"{total}_bias"))
            x = f"{total}_biased"
        inputs = [total, scale, *([shift] if shift else [])]
        kept = {"axis": -1, "epsilon": next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)}
        written.append(helper.make_node("Add", [x, skip], [total], name=f"{total}_add"))
        written.append(
            helper.make_node("LayerNormalization", inputs, [node.output[0]], name=f"{total}_norm", **kept)
        )
    del model.graph.node[:]
    model.graph.node.extend(written)


def fuse_further(model: Any) -> Any | None:
    """What ONNX Runtime's optimizer for transformers makes of the model; None when it finds nothing to do."""
    counts = contents.operators(model)
    if not (_NORMALIZATIONS & set(counts) and _ATTENTIONS & set(counts)):
        return None
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    options.use_raw_attention_mask(True)  # otherwise a mask becomes lengths, which assumes padding at the end
    with backend.rewriting():
        fused = optimizer.optimize_model(
            graph.copy(model), "bert", num_heads=0, hidden_size=0, optimization_options=options, opt_level=0
        ).model
    return fused if contents.operators(fused) != counts else None


def fused_operators(before: Any, after: Any) -> dict[str, int]:
    """ONNX Runtime's own operators that `after` has and `before` had not, the most frequent first."""

    def own(model: Any) -> Counter[str]:
        return Counter(node.op_type for node in model.graph.node if node.domain == "com.microsoft")

    return dict((own(after) - own(before)).most_common())
