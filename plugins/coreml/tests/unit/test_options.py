"""What is wrong with options alone is said as they are read: before a model is loaded."""

import pytest
from modelexport import Source
from modelexport.errors import OptionError
from modelexport_coreml import ExportOptions, QuantizeOptions, RunOptions, mx_check


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image_input": "x,1,0,PINK"}, "can't use image-input"),
        ({"image_input": "x,one"}, "can't read image-input"),
        ({"image_input": "x,0"}, "can't use image-input"),
        ({"image_input": "x,1,0,RGB,more"}, "can't use image-input"),
        ({"image_input": ",1"}, "can't use image-input"),
        ({"image_input": "x,1,0/0,RGB"}, "2 biases for 3 channels"),
        ({"image_input": "x,1,0/0/0,GRAYSCALE"}, "3 biases for 1 channels"),
        ({"labels": "no/classes.txt"}, r"labels=no/classes\.txt: there is no such file"),
        ({"bound": 0}, "bound=0 makes no sense"),
    ],
)
def test_an_export_that_can_not_be(options, said):
    with pytest.raises(OptionError, match=said):
        ExportOptions(**options)


def test_an_export_that_can_be(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    for options in ({"labels": "processing"}, {"labels": str(tmp_path / "classes.txt")}, {"image_input": "x"}):
        ExportOptions(**options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "linear", "bits": 6}, "linear quantization has no 6-bit integers.*bits=8 or 4"),
        ({"mode": "activations", "bits": 4}, "activations have no 4-bit integers.*bits=8"),
        ({"mode": "prune", "sparsity": 1.5}, "a sparsity of 1.5"),
        ({"mode": "prune", "sparsity": 0.0}, "a sparsity of 0"),
        ({"min_size": 0}, "sizes are 1 or more"),
        ({"block_size": 0}, "sizes are 1 or more"),
        ({"group_size": -1}, "sizes are 1 or more"),
    ],
)
def test_a_quantization_that_can_not_be(options, said):
    with pytest.raises(OptionError, match=said):
        QuantizeOptions(**options)


def test_palettes_of_any_width_without_groups():
    for bits in (8, 6, 4, 3, 2, 1):
        QuantizeOptions(mode="palettize", bits=bits, algorithm="uniform", group_size=0)


def test_k_means_without_scikit_learn(monkeypatch):
    monkeypatch.setattr("modelexport_coreml.importable", lambda module: module != "sklearn")
    with pytest.raises(OptionError, match=r"k-means need scikit-learn.*modelexport-coreml\[quantize\]"):
        QuantizeOptions(mode="palettize")
    QuantizeOptions(mode="palettize", algorithm="uniform")


def test_threads_are_counted_from_zero():
    with pytest.raises(OptionError, match="threads=-1 makes no sense"):
        RunOptions(threads=-1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04\xff\xfe\x00", "is no text file"),
        (b"cat\n\xff\n", "is no text file"),
        (b" \n\n", "no labels in"),
    ],
    ids=["archive", "other encoding", "blank"],
)
def test_a_file_without_labels(content, said, tmp_path):
    (tmp_path / "classes").write_bytes(content)
    with pytest.raises(OptionError, match=said):
        ExportOptions(labels=str(tmp_path / "classes"))


# --------------------------------------------------------------------------------------- before any work


@pytest.mark.parametrize(
    ("export", "quantize", "said"),
    [
        ({"deployment_target": "iOS15"}, {"bits": 4}, "4-bit integers need iOS 18"),
        ({"deployment_target": "iOS17"}, {"bits": 4}, "4-bit integers need iOS 18"),
        ({"deployment_target": "iOS16"}, {"mode": "activations"}, "8-bit activations need iOS 17"),
        ({}, {"mode": "activations"}, "in float16"),
    ],
)
def test_a_quantization_that_what_is_exported_can_not_have(export, quantize, said):
    with pytest.raises(OptionError, match=said):
        mx_check({"export": ExportOptions(**export), "quantize": QuantizeOptions(**quantize)}, None)
    mx_check({"export": ExportOptions(), "quantize": QuantizeOptions(bits=4)}, None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image_input": "gone"}, "image-input names 'gone', which is no input"),
        ({"image_input": "x"}, "takes no RGB image"),
        ({"labels": "processing"}, "the source carries no labels"),
    ],
)
def test_what_the_source_is_not_like(options, said):
    source = Source(None, inputs=("x:float32[1,1,8,8]",))
    mx_check({"export": ExportOptions(**options)}, None)
    with pytest.raises(OptionError, match=said):
        mx_check({"export": ExportOptions(**options)}, source)


def test_what_the_source_is_like():
    source = Source(None, inputs=("x:float32[1,3,8,8]",), processing={"labels": ["cat", "dog"]})
    mx_check({"export": ExportOptions(image_input="x", labels="processing")}, source)
