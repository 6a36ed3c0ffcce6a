"""The interface that Core ML is asked for: images, names, listed shapes, labels."""

import pytest
from modelexport.contract import Captured, TensorSpec
from modelexport.errors import OptionError
from modelexport_coreml import features


def specs(*declarations):
    return tuple(TensorSpec.parse(text) for text in declarations)


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("x", features.Image("x", 1.0, (0.0,), "RGB")),
        ("x, 0.5", features.Image("x", 0.5, (0.0,), "RGB")),
        ("x,0.5,-1/0/1,bgr", features.Image("x", 0.5, (-1.0, 0.0, 1.0), "BGR")),
        ("x,1,3,GRAYSCALE", features.Image("x", 1.0, (3.0,), "GRAYSCALE")),
    ],
)
def test_an_image_input_is_read(text, image):
    assert features.Image.parse(text) == image


@pytest.mark.parametrize(
    ("declared", "image", "said"),
    [
        ("x:float32[batch=1..2,3,16,16]", "x", "takes no RGB image"),
        ("x:float32[1,3,16,16]", "x,1,0,GRAYSCALE", r"takes no GRAYSCALE image.*x:float32\[1,1,HEIGHT,WIDTH\]"),
        ("x:uint8[1,3,16,16]", "x", "takes no RGB image"),
        ("x:float32[3,16,16]", "x", "takes no RGB image"),
        ("x:float32[1,3,16,16]", "y,1,0,RGB", "names 'y', which is no input.*one of x"),
    ],
)
def test_an_image_that_the_input_does_not_take(declared, image, said):
    with pytest.raises(OptionError, match=said):
        features.image_of(specs(declared), image)


def test_an_image_that_the_input_takes():
    assert features.image_of(specs("x:float32[1,3,16,16]"), "x").channels == 3
    assert features.image_of(specs("x:float32[1,3,16,16]"), None) is None


def test_names_are_identifiers_and_all_different():
    captured = Captured(None, specs("a.b:float32[1]", "2d:float32[1]"), specs("a_b:float32[1]", "in:float32[1]"))
    names = features.identifiers(captured)
    assert names == {"a.b": "a_b", "2d": "_2d", "a_b": "a_b_", "in": "in"}


@pytest.mark.parametrize(
    ("declared", "shapes", "listed"),
    [
        ("x:float32[batch=1..4,8]", "range", False),
        ("x:float32[batch=1..4,8]", "enumerated", True),
        ("x:float32[side=32..64/32,8]", "range", True),
        ("x:float32[2,8]", "enumerated", False),
    ],
)
def test_sizes_are_listed_where_asked_or_in_steps(declared, shapes, listed):
    assert features.lists_shapes(specs(declared), shapes) is listed


def captured_with(outputs, labels=None):
    return Captured(None, specs("x:float32[1,4]"), outputs, processing={"labels": labels} if labels else {})


@pytest.mark.parametrize("labels", [["cat", "dog"], {"1": "dog", "0": "cat"}])
def test_labels_that_the_source_carries(labels):
    one = specs("y:float32[1,2]")
    assert features.labels_of(captured_with(one, labels), "processing") == ["cat", "dog"]
    with pytest.raises(OptionError, match="the source carries no labels"):
        features.labels_of(captured_with(one), "processing")


def test_labels_of_a_file(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("cat\n\n dog \n")
    assert features.labels_of(captured_with(specs("y:float32[1,2]")), str(path)) == ["cat", "dog"]
    assert features.labels_of(captured_with(specs("y:float32[1,2]")), None) is None


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (("y:float32[1,3]",), r"2 labels don't fit the output y:float32\[1,3\]"),
        (("y:float32[batch,2]",), "2 labels don't fit"),
        (("y:float32[1,2]", "z:float32[1]"), "a classifier has one output, this model has y, z"),
    ],
)
def test_labels_that_do_not_fit(outputs, said):
    with pytest.raises(OptionError, match=said):
        features.labels_of(captured_with(specs(*outputs), ["cat", "dog"]), "processing")
