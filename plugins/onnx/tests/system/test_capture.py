"""From the captured program to the ONNX file: names, dims, opsets, data beside it, operators that ONNX lacks."""

import re
import sys
from pathlib import Path

import modelexport as mx
import pytest
from modelexport.errors import ConversionError, OptionError, ParityError

NETS = Path(__file__).parents[1] / "nets"


@pytest.fixture(autouse=True)
def backends():
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")


@pytest.fixture
def export(tmp_path):
    """Export a factory of nets/shapes.py, or another source."""

    def run(source, **more):
        source = f"{NETS / 'shapes.py'}:{source}" if isinstance(source, str) and source.isidentifier() else source
        (artifact,) = mx.export(source, "onnx", tmp_path / "build", **more)
        return artifact

    return run


def graph(artifact):
    import onnx

    return onnx.load(artifact.entry_path).graph


def shape(value):
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def line(text):
    lines = (NETS / "shapes.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


# --------------------------------------------------------------------------------------- names and dims


def test_dims_that_are_declared_are_dynamic_in_the_file(export):
    made = export("example_of_one", inputs=["x:float32[batch=1..8,6]"])
    assert shape(graph(made).input[0]) == ["batch", 6]
    assert made.parity.verified is True


def test_an_example_alone_fixes_the_shape(export):
    assert shape(graph(export("example_of_one")).input[0]) == [1, 6]


def test_names_and_shared_dims_reach_the_file(export):
    found = graph(export("scores"))
    assert [value.name for value in found.input] == ["ids", "mask"]
    assert [value.name for value in found.output] == ["output_0", "output_1"]
    assert [shape(value) for value in found.input] == [["batch", "seq"], ["batch", "seq"]]
    assert [shape(value) for value in found.output] == [["batch"], ["batch", "seq"]]


@pytest.mark.parametrize(
    ("factory", "names"),
    [
        ("nested", ["logits", "hidden.0", "hidden.1.0", "x_out"]),
        ("pair", ["output_0", "output_1.0", "output_1.1"]),
        ("named_pair", ["plus", "total", "whole"]),
    ],
)
def test_outputs_in_dicts_and_tuples_have_their_names_in_the_file(factory, names, export):
    assert [value.name for value in graph(export(factory)).output] == names


def test_a_captured_program_keeps_names_and_dims(export, tmp_path):
    """module → captured artifact → ONNX, and program.pt2 → ONNX."""
    (captured,) = mx.export(f"{NETS / 'shapes.py'}:scores", "captured", tmp_path)
    made = export(captured.path)
    assert made.parity.verified is True
    assert [step.target for step in made.lineage] == ["captured", "onnx"]
    assert [shape(value) for value in graph(made).input] == [["batch", "seq"]] * 2
    declared = ["ids:int64[batch=1..4,seq=1..9]=0..30", "mask:int64[batch,seq]=mask"]
    assert export(captured.entry_path, inputs=declared).parity.verified is True


def test_dims_that_are_held_narrower_are_numbers_in_the_file(export, tmp_path):
    (captured,) = mx.export(f"{NETS / 'shapes.py'}:scores", "captured", tmp_path)
    made = export(captured.path, dims=["batch=3", "seq=6"])
    assert made.parity.verified is True
    assert [shape(value) for value in graph(made).input] == [[3, 6], [3, 6]]


# --------------------------------------------------------------------------------------- options


@pytest.mark.parametrize("opset", range(18, 24))
def test_the_opset_is_written_as_asked(opset, export):
    import onnx

    made = export("example_of_one", options={"opset": opset})
    model = onnx.load(made.entry_path)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == opset
    assert made.details["opset"] == opset
    assert made.lineage[-1].options["opset"] == opset
    assert made.parity.verified is True


@pytest.mark.parametrize(("opset", "nearest"), [(9, 18), (17, 18), (26, 25)])
def test_an_opset_that_can_not_be_written_is_refused(opset, nearest, export, tmp_path):
    with pytest.raises(OptionError, match=f"opset {opset} can't be written") as caught:
        export("example_of_one", options={"opset": opset})
    assert f"-k opset={nearest}" in caught.value.hint
    assert not list((tmp_path / "build").glob("*"))


def test_data_beside_the_file_is_part_of_the_artifact(export):
    made = export("example_of_one", options={"external_data": "always"})
    assert "model.onnx.data" in [file.path for file in made.files]
    assert made.parity.verified is True


def test_the_lineage_names_the_tools(export):
    (step,) = export("line").lineage
    assert (step.verb, step.target, step.options["opset"]) == ("export", "onnx", 20)
    assert {"modelexport", "modelexport-onnx", "onnx", "onnxscript", "torch"} <= set(step.tools)


# --------------------------------------------------------------------------------------- operators


def test_unsupported_operators_are_listed_at_once(export, tmp_path):
    with pytest.raises(ConversionError, match="3 operators have no ONNX translation") as caught:
        export("unsupported")
    eigh, bessel = line("torch.linalg.eigh"), line("torch.special.bessel_j0")
    message, file = caught.value.message, NETS / "shapes.py"
    assert f"aten._linalg_eigh.default in the model (Unsupported) at {file}:{eigh}" in message
    for operator in ("bessel_j0", "bessel_i1e"):
        assert f"prims.{operator}.default in inner.1 (Bessel) at {file}:{bessel}" in message
    assert "--register" in caught.value.hint
    assert not list((tmp_path / "build").glob("*"))


@pytest.fixture
def custom(monkeypatch):
    """The reference of a model with an operator of its own, before any translation of it is registered."""
    from modelexport_onnx import operators

    monkeypatch.setattr(operators, "TRANSLATIONS", {})
    monkeypatch.chdir(NETS)
    yield f"{NETS / 'custom_op.py'}:net"
    for name in ("softplus_onnx", "softplus_onnx_wrong"):
        sys.modules.pop(name, None)


def test_an_operator_of_the_users_own(export, custom):
    with pytest.raises(
        ConversionError, match=re.escape("1 operator has no ONNX translation: nets.shifted_softplus")
    ):
        export(custom)
    made = export(custom, register=["softplus_onnx"])
    assert made.parity.verified is True
    assert "Softplus" in made.details["operators"]


def test_a_wrong_translation_is_caught_by_the_gate(export, custom, tmp_path):
    with pytest.raises(ParityError, match=re.escape("max abs difference 0.5")):
        export(custom, register=["softplus_onnx_wrong"])
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["net.onnx.failed"]
