"""Export to Core ML, the interface of what is written, and its verification."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from modelexport import api
from modelexport.errors import CannotRunHere, ConversionError, InputError, MxError, OptionError

IDS = ("ids:int64[batch=1..8,seq=1..32]=0..49", "mask:int64[batch=1..8,seq=1..32]=mask")


@pytest.fixture(scope="module")
def small(export, nets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    return export(nets.Small, folder, "x:float32[batch=1..8,3,17,16]", outputs=("logits",))


@pytest.fixture(scope="module")
def line(export, nets, tmp_path_factory):
    return export(nets.Line, tmp_path_factory.mktemp("line"), "x:float32[batch,64]", bound=32)


# --------------------------------------------------------------------------------------- nets


def test_a_cnn_with_a_dynamic_batch(small, worst):
    assert small.parity.verified is True
    assert worst(small) < 1e-5
    assert small.details["operators"]["conv"] == 3
    assert "batch_norm" not in small.details["operators"]
    weights = small.details["weights"]
    assert 0 < weights["unchanged"] < weights["of"]  # all but the convolution that swallowed its normalization


def test_an_encoder_with_dynamic_batch_and_sequence(export, nets, worst, tmp_path):
    artifact = export(nets.Encoder, tmp_path, *IDS)
    assert artifact.parity.verified is True
    assert worst(artifact) < 1e-5
    operators = artifact.details["operators"]
    assert operators["layer_norm"] == 4
    assert operators["scaled_dot_product_attention"] == 2
    assert artifact.details["weights"]["share"] > 0.95


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("both", [False, True])
def test_recurrence(kind, both, export, nets, worst, tmp_path):
    """An LSTM stays one operator a layer. A GRU is unrolled: coremltools' own form can't be read back."""
    artifact = export(lambda: nets.Recurrent(kind, both), tmp_path, "x:float32[batch=1..4,3,4]")
    assert artifact.parity.verified is True
    assert worst(artifact) < 1e-5
    assert artifact.details["operators"].get("lstm", 0) == (2 if kind == "LSTM" else 0)


def test_float16_is_computed_in_float16_storage(small, export, nets, worst, tmp_path):
    artifact = export(nets.Small, tmp_path, "x:float32[2,3,17,16]", compute_precision="float16")
    assert artifact.precision == "float16"
    assert artifact.parity.verified is True
    assert 1e-6 < worst(artifact) < 5e-3
    assert artifact.details["weights"]["bytes"] < 0.55 * small.details["weights"]["bytes"]


def test_what_the_converter_lacks_is_written_with_what_it_has(export, nets, tmp_path):
    artifact = export(nets.Rewritten, tmp_path, "x:float32[batch=1..4,3,16,8]=0..100")
    assert artifact.parity.verified is True
    assert artifact.details["operators"]["avg_pool"] == 1
    with pytest.raises(ConversionError, match=r"(?s)daptive.*in multiples of the pool's output"):
        export(nets.Rewritten, tmp_path, "x:float32[batch=1..4,3,17,8]")


def test_a_model_with_a_state_keeps_it(export, nets, tmp_path):
    with pytest.raises(ConversionError, match=r"buffer 'total': Core ML keeps states in float16"):
        export(nets.Counter, tmp_path, "x:float32[2,3]")
    artifact = export(nets.Counter, tmp_path, "x:float32[2,3]", compute_precision="float16")
    assert artifact.parity.verified is True
    with api.run(artifact.path) as session:
        x = np.ones((2, 3), np.float32)
        first, second = session({"x": x}), session({"x": x})
    name = artifact.outputs[0].name
    np.testing.assert_allclose(first[name], np.full((2, 3), 3.0))
    np.testing.assert_allclose(second[name], np.full((2, 3), 5.0))


@pytest.mark.parametrize("batch", ["2", "batch=1..3"])
def test_heads_that_share_keys_get_the_right_ones(batch, export, nets, worst, tmp_path):
    """The converter itself takes shared heads in turn, not in pairs, where the batch is dynamic."""
    artifact = export(nets.Grouped, tmp_path, f"q:float32[{batch},4,5,8]", f"k:float32[{batch},2,5,8]")
    assert artifact.parity.verified is True
    assert worst(artifact) < 1e-5
    assert artifact.details["operators"]["scaled_dot_product_attention"] == 1


def test_what_is_refused_whole_is_taken_apart_and_said(export, nets, worst, tmp_path):
    artifact = export(nets.Projected, tmp_path, "x:float32[2,3,4]")
    assert artifact.parity.verified is True
    assert worst(artifact) < 1e-5
    (note,) = artifact.notes
    assert note.startswith("attention and recurrence were taken apart: whole, coremltools can't convert the model")
    assert "lstm" not in artifact.details["operators"]


@pytest.mark.parametrize("pool", ["max_pool1d", "max_pool2d", "max_pool3d", "avg_pool2d"])
def test_pools_without_a_stride(pool, export, nets, tmp_path):
    rank = int(pool[-2])
    artifact = export(lambda: nets.Pool(pool), tmp_path, f"x:float32[2,3{',8' * rank}]")
    assert artifact.parity.verified is True
    assert artifact.outputs[0].shape == (2, 3, *[4] * rank)


def test_the_session_says_who_computes(small):
    with api.run(small.path) as session:
        assert ("interpreter" in session.details["computed_by"]) == (os.uname().sysname != "Darwin")


def test_an_operator_the_interpreter_lacks_leaves_the_structure(line, monkeypatch):
    from modelexport_coreml.interpreter.registry import OPERATORS

    monkeypatch.delitem(OPERATORS, "linear")
    with pytest.raises(
        CannotRunHere, match=r"no interpreter for operator linear; Core ML itself runs on macOS only"
    ):
        api.run(line.path)


def test_the_program_is_left_as_it_was(ct, nets, torch, tmp_path):
    from modelexport.contract import Captured, TensorSpec
    from modelexport_coreml import ExportOptions, mx_export

    program = torch.export.export(nets.Small().eval(), (torch.zeros(1, 3, 16, 16),))
    before = str(program.graph)
    specs = (TensorSpec.parse("input:float32[1,3,16,16]"),), (TensorSpec.parse("logits:float32[1,4]"),)
    mx_export(Captured(program, *specs), tmp_path, ExportOptions())
    assert str(program.graph) == before


# --------------------------------------------------------------------------------------- interface


def test_names_are_kept_and_made_identifiers(export, nets, spec_of, tmp_path):
    artifact = export(nets.Named, tmp_path, "x:float32[2,3]", "mask:bool[2,3]")
    spec = spec_of(artifact)
    assert [feature.name for feature in spec.description.input] == ["x", "mask"]
    assert [feature.name for feature in spec.description.output] == ["up_sum", "down", "x_out"]
    assert artifact.details["names"] == {"up.sum": "up_sum"}
    with api.run(artifact.path) as session:
        outputs = session({"x": np.ones((2, 3), np.float32), "mask": np.eye(2, 3, dtype=bool)})
    assert set(outputs) == {spec.name for spec in artifact.outputs}
    np.testing.assert_array_equal(outputs["up.sum"], 1 + np.eye(2, 3))


def test_dims_are_ranges_and_the_session_refuses_others(line, spec_of):
    ranges = spec_of(line).description.input[0].type.multiArrayType.shapeRange.sizeRanges
    assert [(r.lowerBound, r.upperBound) for r in ranges] == [(1, 32), (64, 64)]
    assert line.details["bounds"] == {"batch": 32}
    assert line.notes == ("batch has no upper bound, and Core ML wants one: it is 32 (-k bound=…)",)
    with api.run(line.path) as session:
        assert next(iter(session({"x": np.zeros((32, 64), np.float32)}).values())).shape == (32, 64)
        with pytest.raises(InputError, match=r"\[33, 64\] is outside"):
            session({"x": np.zeros((33, 64), np.float32)})


def test_a_dim_that_begins_above_the_bound_is_refused(export, nets, tmp_path):
    with pytest.raises(OptionError, match=r"dim batch begins at 9, above bound=8.*--dim batch=LOW\.\.HIGH"):
        export(nets.Line, tmp_path, "x:float32[batch=9..,64]", bound=8)


def shapes_of(spec):
    shapes = spec.description.input[0].type.multiArrayType.enumeratedShapes.shapes
    return sorted(list(shape.shape) for shape in shapes)


def test_shapes_can_be_listed(export, nets, spec_of, tmp_path):
    artifact = export(nets.Narrow, tmp_path, "x:float32[batch=1..3,4]", shapes="enumerated")
    assert shapes_of(spec_of(artifact)) == [[1, 4], [2, 4], [3, 4]]
    with pytest.raises(OptionError, match="more than the 128 shapes"):
        export(nets.Narrow, tmp_path, "x:float32[batch=1..300,4]", shapes="enumerated")


def test_sizes_in_steps_without_an_end_are_listed_up_to_the_bound(export, nets, spec_of, tmp_path):
    artifact = export(nets.Narrow, tmp_path, "x:float32[batch=16../16,4]", bound=40, verify=False)
    assert shapes_of(spec_of(artifact)) == [[16, 4], [32, 4]]


def test_integers_of_64_bits_come_and_go_as_declared(export, nets, spec_of, tmp_path):
    from modelexport_coreml.files import array_type

    artifact = export(nets.Next, tmp_path, "ids:int64[2,3]=0..9")
    assert array_type(spec_of(artifact).description.input[0]) == "int32"
    with api.run(artifact.path) as session:
        (ids,) = session({"ids": np.arange(6).reshape(2, 3)}).values()
        assert ids.dtype == np.int64
        with pytest.raises(InputError, match="beyond 32 bits"):
            session({"ids": np.full((2, 3), 2**40)})


def test_an_image_input(export, nets, spec_of, tmp_path):
    options = {"image_input": "x,0.0039,-0.5/-0.4/-0.3,BGR"}
    artifact = export(nets.Small, tmp_path, "x:float32[1,3,17,16]", **options)
    feature = spec_of(artifact).description.input[0]
    assert feature.type.WhichOneof("Type") == "imageType"
    assert (feature.type.imageType.height, feature.type.imageType.width) == (17, 16)
    assert artifact.parity.verified is True
    assert artifact.details["image"]["color"] == "BGR"


def test_a_classifier_carries_its_labels(export, nets, spec_of, worst, tmp_path):
    names = tmp_path / "classes.txt"
    names.write_text("cat\ndog\nbird\nfish\n")
    options = {"labels": str(names), "author": "Ada", "version": "3"}
    artifact = export(nets.Classifier, tmp_path, "x:float32[1,3,17,16]", **options)
    spec = spec_of(artifact)
    assert spec.description.predictedFeatureName == "classLabel"
    assert spec.description.metadata.author == "Ada"
    assert spec.description.metadata.versionString == "3"
    assert artifact.parity.verified is True
    assert worst(artifact) < 1e-5
    with pytest.raises(OptionError, match="4 labels don't fit"):
        export(nets.FiveClasses, tmp_path, "x:float32[1,3,17,16]", labels=str(names))
    with pytest.raises(OptionError, match="carries no labels"):
        export(nets.FiveClasses, tmp_path, "x:float32[1,3,17,16]", labels="processing")


# --------------------------------------------------------------------------------------- refusals


def test_operators_without_a_translation_are_listed_at_once(export, nets, tmp_path):
    with pytest.raises(ConversionError) as caught:
        export(nets.Strange, tmp_path, "x:float32[2,3]")
    assert "2 operators have no Core ML translation" in caught.value.message
    assert "bessel_j0" in caught.value.message
    assert "igamma" in caught.value.message
    assert "nets.py" in caught.value.message


def test_what_core_ml_has_no_type_for_is_refused(export, nets, torch, tmp_path):
    with pytest.raises(ConversionError, match=r"output '.*' is complex64.*view_as_real"):
        export(nets.Spectrum, tmp_path, "x:float32[2,8]")
    with pytest.raises(ConversionError, match="has no dims"):
        export(torch.nn.ReLU, tmp_path, "x:float32[]")


def test_a_damaged_package_is_an_error_and_no_crash(line, tmp_path):
    damaged = Path(shutil.copytree(line.path, tmp_path / "damaged.coreml"))
    shutil.rmtree(damaged / line.entry / "Data")
    with pytest.raises(MxError, match=r"model\.mlmodel is missing from the artifact"):
        api.run(damaged)


def blob(folder):
    (path,) = Path(folder).glob("**/weights/weight.bin")
    return path


def test_a_wrong_weight_is_caught(line, gate, tmp_path):
    """The gate reads the file: one weight changed there, and the artifact verifies no more."""
    from modelexport.gate import verify

    artifact = replace(line, path=Path(shutil.copytree(line.path, tmp_path / "damaged.coreml")))
    data = bytearray(blob(artifact.path).read_bytes())
    middle = len(data) // 2 // 4 * 4
    data[middle : middle + 4] = np.float32(5).tobytes()
    blob(artifact.path).write_bytes(bytes(data))
    assert verify.verify_artifact(artifact, child=gate).verified is False


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_bit_that_flips_while_the_package_is_written_is_caught(
    precision, export, nets, ct, tmp_path, monkeypatch
):
    """The last bit of one weight is nothing that a budget sees; and a folded weight is none of the model's."""
    saved = ct.models.MLModel.save

    def save_with_a_flip(model, path):
        saved(model, path)
        data = bytearray(blob(path).read_bytes())
        last = max(index for index, byte in enumerate(data) if byte)  # the lowest byte of a value, or its next
        data[last - 9] ^= 1
        blob(path).write_bytes(bytes(data))

    monkeypatch.setattr(ct.models.MLModel, "save", save_with_a_flip)
    with pytest.raises(ConversionError, match=r"1 of 9 constants in the file are not those that were converted"):
        export(nets.Small, tmp_path, "x:float32[1,3,17,16]", compute_precision=precision)
    assert list(tmp_path.iterdir()) == []


def test_a_parameter_that_the_converter_changes_is_caught(ct, torch, tmp_path):
    """A constant that bears a parameter's name is that parameter: here the model's is another one by then."""
    from modelexport.contract import Captured, TensorSpec
    from modelexport_coreml import ExportOptions, files, mx_export

    program = torch.export.export(torch.nn.Embedding(8, 4), (torch.zeros(1, 2, dtype=torch.int64),))
    specs = (TensorSpec.parse("input:int64[1,2]=0..7"),), (TensorSpec.parse("rows:float32[1,2,4]"),)
    captured = Captured(program, *specs)
    build = mx_export(captured, tmp_path, ExportOptions())
    assert build.details["weights"]["share"] == 1
    path = tmp_path / build.entry
    written, names = files.load_program(path), {"input": "input", "rows": "rows"}
    with torch.no_grad():
        program.state_dict["weight"][3, 1] += 1e-7
    with pytest.raises(ConversionError, match="'p_weight' in the file is not the model's 'weight'"):
        files.check(path, written, captured, names, classifier=False)
