"""Graphs rewritten before they are quantized, and what a profile says of their nodes."""

import numpy as np
import pytest


@pytest.mark.parametrize("sizes", [None, (32, 32, 48)], ids=["alike", "wide values"])
@pytest.mark.parametrize("causal", [0, 1])
def test_attention_taken_apart_computes_the_same(sizes, causal, graphs):
    from modelexport_onnx.quantize import prepare
    from onnx import helper

    generator = np.random.default_rng(0)
    width = sum(sizes or (32, 32, 32))
    arrays = {
        "weight": generator.standard_normal((32, width)).astype(np.float32) / 4,
        "bias": generator.standard_normal(width).astype(np.float32),
    }
    more = {"qkv_hidden_sizes": sizes} if sizes else {}
    node = helper.make_node(
        "Attention", ["x", "weight", "bias", "mask"], ["y"], name="attend", domain="com.microsoft", num_heads=4,
        unidirectional=causal, **more,
    )  # fmt: skip
    fused = graphs.graph_of(
        [node], {"x": (1, ["batch", "length", 32]), "mask": (6, ["batch", "length"])}, ["y"], arrays
    )
    apart = type(fused)()
    apart.CopyFrom(fused)
    prepare.split_attention(apart)
    assert [n.op_type for n in apart.graph.node] == ["MatMul", "Add", "Split", "MultiHeadAttention"]
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)
    given = {"x": generator.standard_normal((2, 5, 32)).astype(np.float32), "mask": mask}
    want, got = (graphs.same_session(model).run(None, given)[0] for model in (fused, apart))
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_embedding_tables_row_by_row_are_what_numpy_makes_of_them(graphs):
    """A table that two lookups share, one of which stays; one that is too small; one that a branch reads too."""
    from modelexport_onnx.quantize import weights
    from onnx import helper

    generator = np.random.default_rng(0)
    arrays = {
        "shared": (generator.standard_normal((50, 32)) * np.logspace(-3, 2, 50)[:, None]).astype(np.float32),
        "small": np.ones((4, 4), np.float32),
    }
    arrays["shared"][7] = 0
    nodes = [
        helper.make_node("Gather", ["shared", "ids"], ["one"], name="one"),
        helper.make_node("Gather", ["shared", "ids"], ["other"], name="other"),
        helper.make_node("Gather", ["small", "tiny"], ["third"], name="third"),
    ]
    inputs = {"ids": (7, ["n"]), "tiny": (7, ["n"])}
    model = graphs.graph_of(nodes, inputs, ["one", "other", "third"], arrays)
    assert weights.quantize_rows(model, ["other"]) == ["one"]
    assert [t.name for t in model.graph.initializer if t.name == "shared"] == ["shared"]
    ids, tiny = np.array([0, 7, 7, 49, -1]), np.array([0, 1, 2, 3])
    one, other, third = graphs.same_session(model).run(None, {"ids": ids, "tiny": tiny})
    scale = np.maximum(np.abs(arrays["shared"]).max(1, keepdims=True) / 127, np.finfo(np.float32).tiny)
    want = (np.rint(arrays["shared"] / scale) * scale)[ids]
    np.testing.assert_allclose(one, want, rtol=1e-6)
    np.testing.assert_array_equal(other, arrays["shared"][ids])
    np.testing.assert_array_equal(third, arrays["small"][tiny])
    assert weights.quantize_rows(model) == ["other"]
    assert "shared" not in {t.name for t in model.graph.initializer}


def test_time_goes_to_the_node_of_that_name_and_not_to_one_whose_name_begins_alike(graphs):
    from modelexport_onnx.quantize import explain
    from onnx import helper

    generator = np.random.default_rng(0)
    arrays = {"w": generator.standard_normal((512, 512)).astype(np.float32)}
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="node_1"),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="node_11"),
        helper.make_node("MatMul", ["b", "w"], ["y"], name="node_12"),
    ]
    model = graphs.graph_of(nodes, {"x": (1, [64, 512])}, ["y"], arrays)
    taken = explain.profile(model, {"x": np.ones((64, 512), np.float32)}, ["node_1", "node_11", "node_12"], None)
    assert taken["node_1"] < 0.2 * (taken["node_11"] + taken["node_12"])
