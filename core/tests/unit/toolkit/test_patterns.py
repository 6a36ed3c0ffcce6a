"""Patterns name layers; one that names none is an error, since the layer it means would not be excluded."""

import pytest
from modelexport.contract import QuantizedLayer
from modelexport.errors import OptionError
from modelexport.toolkit import left_as_they_are, listed, matching

NAMES = ["head.weight", "body.0.weight", "body.1.weight", "stem[0]", "a\nb"]


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ([], set()),
        (["head.weight"], {"head.weight"}),
        (["body.*"], {"body.0.weight", "body.1.weight"}),
        (["body.?.weight", "h*"], {"body.0.weight", "body.1.weight", "head.weight"}),
        (["stem[0]"], {"stem[0]"}),
        (["*"], set(NAMES)),
    ],
)
def test_patterns_match_whole_names(patterns, found):
    assert matching(NAMES, patterns) == found


@pytest.mark.parametrize("pattern", ["body", "Head.weight", "stem.0.", "body.[01].weight", ""])
def test_a_pattern_that_matches_nothing_is_an_error(pattern):
    with pytest.raises(OptionError, match="matches no layer"):
        matching(NAMES, ["head.weight", pattern])


def test_the_error_says_what_there_is():
    with pytest.raises(OptionError) as raised:
        matching(NAMES, ["head.wieght"], option="keep")
    assert raised.value.message == "keep=head.wieght matches no layer"
    assert raised.value.hint == "did you mean 'head.weight'?"
    with pytest.raises(OptionError) as raised:
        matching([f"layer{n}" for n in range(100)], ["x"])
    assert raised.value.hint.endswith("layer11, and 88 more")


def test_lists_are_cut_and_counted():
    assert listed(["a"]) == "a"
    assert listed("abcd", most=2) == "a; b; and 2 more"


def test_notes_name_the_first_layers_that_stay_and_count_the_others():
    layers = [QuantizedLayer(f"l{n}", "linear", "float32", note="excluded") for n in range(7)]
    layers.insert(0, QuantizedLayer("q", "linear", "int8"))
    notes = left_as_they_are(layers)
    assert notes[0] == "l0 stays in float32: excluded"
    assert notes[5] == "2 more stay as they are: `mx inspect --quantization` lists them"
    assert len(notes) == 6
    assert left_as_they_are(layers[:1]) == []
