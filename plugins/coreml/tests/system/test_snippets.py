"""The Swift that runs a package: its syntax is checked, and that it has the package's names, types and sizes."""

import pytest
from modelexport.plugins import calls, manager


def swift_of(artifact):
    (text,) = calls.call(manager.target("coreml"), "snippet", artifact=artifact, language="swift").values()
    return text


def parsed(text):
    """Fails where the text is no Swift."""
    tree_sitter = pytest.importorskip("tree_sitter")
    grammar = pytest.importorskip("tree_sitter_swift")
    tree = tree_sitter.Parser(tree_sitter.Language(grammar.language())).parse(text.encode())
    wrong = [node for node in nodes(tree.root_node) if node.is_error or node.is_missing]
    assert wrong == [], f"line {wrong[0].start_point[0] + 1}: {wrong[0].text.decode()}"
    return tree.root_node


def nodes(node):
    yield node
    for child in node.children:
        yield from nodes(child)


def test_swift_that_is_none_is_noticed():
    with pytest.raises(AssertionError, match="line 1"):
        parsed("let x = = 1")


def test_swift_names_every_array(sums, make, tmp_path):
    artifact = make(sums, tmp_path, ["x:float32[rows=2..6,4]", "y:float32[rows=2..6,4]"], verify=False)
    text = swift_of(artifact)
    parsed(text)
    assert text.count("\nlet ROWS = 2  // rows=2..6\n") == 1
    assert '"x": array([ROWS, 4], .float32),' in text
    assert 'show("total", answer.featureValue(for: "total")!.multiArrayValue!)' in text
    assert "CVPixelBuffer?" not in text
    assert "./main ../../model.mlpackage" in text


def test_swift_of_a_dim_without_an_end_begins_within_the_bound(export, nets, tmp_path):
    artifact = export(nets.Line, tmp_path, "x:float32[batch,64]", bound=1, verify=False)
    text = swift_of(artifact)
    parsed(text)
    assert "let BATCH = 1  // batch=1..1" in text


def test_swift_of_a_classifier_of_images(shades, make, tmp_path):
    artifact = make(shades, tmp_path, verify=False, compute_units="cpu-and-ne")
    text = swift_of(artifact)
    parsed(text)
    assert '"image": image(width: 8, height: 6, format: kCVPixelFormatType_32BGRA),' in text
    assert 'print(answer.featureValue(for: "shade")!.stringValue)' in text
    assert 'featureValue(for: "shade_probs")!.dictionaryValue' in text
    assert "configuration.computeUnits = .cpuAndNeuralEngine" in text


def test_swift_of_a_model_with_a_state_and_of_types(export, nets, tmp_path):
    options = {"compute_precision": "float16"}
    artifact = export(nets.CounterOfIntegers, tmp_path, "ids:int64[2,3]=0..9", verify=False, **options)
    text = swift_of(artifact)
    parsed(text)
    assert '"ids": array([2, 3], .int32),' in text
    assert 'featureValue(for: "up_sum")' in text
    assert "model.prediction(from: inputs, using: state)" in text
