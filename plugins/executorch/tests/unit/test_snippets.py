"""Programs to start from: well formed in their languages, and refused for dtypes that a language lacks."""

import importlib
from pathlib import Path

import pytest
from modelexport.contract import Artifact, TensorSpec
from modelexport.errors import ConversionError
from modelexport.plugins import manager

LIBRARY = {"java": "tree_sitter_java", "kotlin": "tree_sitter_kotlin", "swift": "tree_sitter_swift"}


def artifact(inputs, outputs, **details):
    specs = [tuple(TensorSpec.parse(text) for text in texts) for texts in (inputs, outputs)]
    return Artifact(Path("net.executorch"), "executorch", "model.pte", *specs, details=details)


#: names that are no identifiers, a word of C++, several dtypes, two dynamic dims, one of them without an end
NAMED = artifact(
    ("ids:int64[batch=1..4,length=3..]=0..9", "float:float32[batch=1..4,length=3..,6]", "scale:float32[]"),
    ("mixed.1:float32[batch=1..4,length=3..,3]", "best:int64[batch=1..4,length=3..]"),
    bounds={"length": 9},
    backend=["xnnpack"],
)


def snippet(artifact, language):
    return manager.target("executorch").hook.mx_snippet(artifact=artifact, language=language)


@pytest.mark.parametrize("language", ["cpp", "java", "kotlin", "swift"])
def test_every_language_has_one_with_dims_bounded_as_the_memory_plan_is(language):
    assert language in manager.target("executorch").target.snippets
    text = "\n".join(snippet(NAMED, language).values())
    for part in (
        "batch=1..4",
        "length=3..9",
        "model",
        "ids",
        "float_",
        "mixed_1" if language != "cpp" else "mixed.1",
    ):
        assert part in text


@pytest.mark.parametrize("language", LIBRARY)
def test_they_are_well_formed(language):
    import tree_sitter

    grammar = importlib.import_module(LIBRARY[language])
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    (text,) = snippet(NAMED, language).values()
    tree = parser.parse(text.encode())
    assert not tree.root_node.has_error, text
    for part in ("ids", "float_", "mixed_1", "best", "BATCH", "LENGTH"):
        assert part in text


def test_dtypes_that_a_language_lacks_are_refused():
    half = artifact(("input:float16[2,3]",), ("output:float16[2,2]",))
    for language in ("java", "kotlin"):
        with pytest.raises(ConversionError, match="API has no tensors of float16, which 'input' is"):
            snippet(half, language)
    assert "Float16" in snippet(half, "swift")["main.swift"]
    assert "executorch::aten::Half" in snippet(half, "cpp")["main.cpp"]


def test_what_must_be_linked_follows_from_the_program():
    quantized = artifact(
        ("x:float32[2]",), ("y:float32[2]",), kernels=["quantized_decomposed::add.out"], backend=["coreml"]
    )
    assert "QUANTIZED_KERNELS_LIBRARY" in snippet(quantized, "cpp")["CMakeLists.txt"]
    assert "QUANTIZED_KERNELS_LIBRARY" not in snippet(NAMED, "cpp")["CMakeLists.txt"]
    assert "kernels_optimized, kernels_quantized, backend_coreml" in snippet(quantized, "swift")["main.swift"]
    assert "link executorch, kernels_optimized, backend_xnnpack" in snippet(NAMED, "swift")["main.swift"]
