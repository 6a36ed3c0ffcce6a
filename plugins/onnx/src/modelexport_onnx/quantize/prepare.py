"""The floating-point model made ready to be quantized: what quantizers stumble over, put in another form.

It computes the same then: constants are initializers, nodes have names of their own and tensors their types, and
products with weights are operators of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.errors import ConversionError

from .. import contents, files, graph, session
from ..graph import Graph
from ..optimize import fusions

if TYPE_CHECKING:
    from modelexport.contract import Array

#: operators that only lay out what they are given: of constants, they make constants of the same size
LAYOUT = {"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Slice", "Split", "Concat", "Flatten"}

#: opset in which QuantizeLinear learnt axes
OLDEST = 13


def load(path: Path) -> Any:
    """The model of a file, ready.

    Raises ArtifactError for a model that is quantized already, ConversionError for an opset too old.
    """
    model = files.load(path)
    contents.refuse_quantized(model)
    opset = contents.opset(model)
    if opset < OLDEST:
        raise ConversionError(
            f"opset {opset} has no per-channel quantization: that came with opset {OLDEST}",
            "export the model again at a newer opset, or convert it with onnx.version_converter",
        )
    graph.name_nodes(model)
    gather_constants(model)
    fold_layout(model)
    own_weights(model)
    absorb_beta(model)
    fusions.take_apart(model)
    split_attention(model)
    graph.add_types(model)
    return model


# --------------------------------------------------------------------------------------- constants and weights


def gather_constants(model: Any) -> None:
    """Make initializers of Constant nodes, and constants of initializers that a caller could replace."""
    main, own = model.graph, {value.name for value in model.graph.output}
    for place in reversed(range(len(main.node))):
        node = main.node[place]
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and value is not None and node.output[0] not in own:
            main.initializer.add().CopyFrom(value)
            main.initializer[-1].name = node.output[0]
            del main.node[place]
    names = {tensor.name for tensor in main.initializer}
    for place in reversed([i for i, value in enumerate(main.input) if value.name in names]):
        del main.input[place]


def fold_layout(model: Any) -> None:
    """Make initializers of weights that are only laid out anew, as torch.onnx leaves those of an LSTM."""
    from onnx import numpy_helper

    main = model.graph
    own, constants = {value.name for value in main.output}, {tensor.name for tensor in main.initializer}
    folded: list[Any] = []
    for node in main.node:
        whole = all(not name or name in constants for name in node.input)
        if node.op_type in LAYOUT and whole and not own.intersection(node.output):
            folded.append(node)
            constants.update(node.output)
    if not folded:
        return
    values = _computed(model, folded)
    for node in folded:
        main.node.remove(node)
    read = Graph(model).uses()
    main.initializer.extend(numpy_helper.from_array(array, name) for name, array in values.items() if read[name])
    graph.drop_unused(model, {name for node in folded for name in node.input})


def _computed(model: Any, nodes: Sequence[Any]) -> dict[str, Array]:
    """What nodes of the model give that read nothing but constants."""
    from onnx import ValueInfoProto

    apart = graph.copy(model)
    for part in (apart.graph.node, apart.graph.input, apart.graph.output, apart.graph.value_info):
        del part[:]
    apart.graph.node.extend(nodes)
    names = [name for node in nodes for name in node.output if name]
    apart.graph.output.extend(ValueInfoProto(name=name) for name in names)
    return dict(zip(names, session.open_model(apart, optimization="none").run(names, {}), strict=True))


def own_weights(model: Any) -> None:
    """Give layers weights of their own where ONNX Runtime's quantizers would spoil what others read.

    They lay out the weights of a Gemm or an LSTM anew under the same name, scale a weight along one axis, and a
    bias as the first layer that reads it needs it.
    """
    layers, axes = Graph(model), dict[str, int]()
    uses = layers.uses()
    spoilt = []
    for node, index, axis in layers.weighted():
        turned = node.op_type in ("LSTM", "GRU") or (node.op_type == "Gemm" and axis == 0)
        if turned or axes.setdefault(node.input[index], axis) != axis:
            spoilt.append((node, index))
        if node.op_type in ("Conv", "ConvTranspose", "Gemm") and len(node.input) > 2:
            spoilt.append((node, 2))
    for node, index in spoilt:
        name = node.input[index]
        if name in layers.initializers and uses[name] > 1:
            twin = model.graph.initializer.add()
            twin.CopyFrom(layers.initializers[name])
            twin.name = node.input[index] = f"{name}_of_{node.name}"
    graph.drop_unused(model, uses)


def absorb_beta(model: Any) -> None:
    """Scale the bias of a Gemm instead of saying so in its `beta`, which ONNX Runtime's quantizers get wrong."""
    from onnx import numpy_helper

    layers = Graph(model)
    uses = layers.uses()
    for node in (node for node in model.graph.node if node.op_type == "Gemm" and len(node.input) > 2):
        name = node.input[2]
        for beta in (attribute for attribute in node.attribute if attribute.name == "beta"):
            if name in layers.initializers and uses[name] == 1:
                bias = layers.weight(name)
                layers.initializers[name].CopyFrom(numpy_helper.from_array(bias * bias.dtype.type(beta.f), name))
                beta.f = 1.0


# --------------------------------------------------------------------------------------- products


def split_attention(model: Any) -> None:
    """Take the product with the weights out of ONNX Runtime's Attention: a MatMul before MultiHeadAttention.

    Its quantized form, QAttention, has one scale for the weights of queries, keys and values together; a MatMul
    is quantized a channel at a time, and smoothed.
    """
    from onnx import helper

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in [node for node in model.graph.node if node.op_type == "Attention" and node.domain]:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        sizes = attributes.pop("qkv_hidden_sizes", None)
        weight, past = node.input[1], [*node.input, *[""] * 4][4]
        strange = set(attributes) - {"num_heads", "unidirectional", "scale", "mask_filter_value"}
        if weight in weights and not past and not strange:
            sizes = sizes or [weights[weight].dims[1] // 3] * 3
            graph.replace_node(model, node, _attention_apart(model, node, sizes, attributes))


def _attention_apart(model: Any, node: Any, sizes: Sequence[int], attributes: Mapping[str, Any]) -> list[Any]:
    """The nodes that together compute an Attention; `sizes` are those of queries, keys and values."""
    import numpy as np
    from onnx import helper, numpy_helper

    x, weight, bias, mask, _, attention_bias = [*node.input, *[""] * 6][:6]
    split = f"{node.name}_sizes"
    model.graph.initializer.append(numpy_helper.from_array(np.array(sizes, np.int64), split))
    product, biased, *parts = (f"{node.output[0]}_{part}" for part in ("product", "biased", "q", "k", "v"))
    nodes = [helper.make_node("MatMul", [x, weight], [product], name=f"{node.name}_product")]
    if bias:
        nodes.append(helper.make_node("Add", [product, bias], [biased], name=f"{node.name}_bias"))
    whole = biased if bias else product
    return [
        *nodes,
        helper.make_node("Split", [whole, split], parts, name=f"{node.name}_split", axis=-1),
        helper.make_node(
            "MultiHeadAttention", [*parts, "", mask, attention_bias], list(node.output), name=node.name,
            domain="com.microsoft", **attributes,
        ),
    ]  # fmt: skip


def split_gemm(model: Any) -> None:
    """Make a MatMul and an Add of every Gemm with constant weights: weights in blocks are MatMul's alone."""
    import numpy as np
    from onnx import helper, numpy_helper

    layers = Graph(model)
    uses = layers.uses()
    for node, index, _ in layers.weighted():
        own = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        plain = not own.get("transA") and own.get("alpha", 1.0) == 1.0 and own.get("beta", 1.0) == 1.0
        name = node.input[index]
        if node.op_type != "Gemm" or not plain or uses[name] > 1:
            continue
        if own.get("transB"):
            turned = np.ascontiguousarray(layers.weight(name).T)
            layers.initializers[name].CopyFrom(numpy_helper.from_array(turned, name))
        output, bias = node.output[0], [*node.input, ""][2]
        product = f"{output}_product" if bias else output
        nodes = [helper.make_node("MatMul", list(node.input[:2]), [product], name=node.name)]
        if bias:
            nodes.append(helper.make_node("Add", [product, bias], [output], name=f"{node.name}_bias"))
        graph.replace_node(model, node, nodes)
