"""Sessions of a file that no converter made: any batch, the model's own dtypes, and failures that say why."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from modelexport.contract import TensorSpec
from modelexport.errors import InputError, RuntimeFailure
from modelexport_tflite import RunOptions, interpreter, session
from modelexport_tflite.interpreter import Slot


def test_any_batch_is_computed(handmade, tmp_path):
    with session.open_artifact(handmade.artifact(tmp_path), RunOptions()) as opened:
        for batch in (1, 4, 2, 2):
            x = np.random.default_rng(batch).standard_normal((batch, 3)).astype(np.float32)
            np.testing.assert_allclose(opened({"x": x})["y"], x @ handmade.WEIGHT.T, rtol=1e-5)


def test_a_name_that_the_file_lacks_is_a_runtime_failure(handmade, tmp_path):
    artifact = replace(handmade.artifact(tmp_path), outputs=(TensorSpec("z", "float32", (1,)),))
    with pytest.raises(RuntimeFailure, match="no tensor 'z'"):
        session.open_artifact(artifact, RunOptions())


def test_a_damaged_file_is_a_runtime_failure(handmade, tmp_path):
    data = handmade.artifact(tmp_path).entry_path.read_bytes()
    for name, damaged in (("cut", data[: len(data) // 3]), ("text", b"not a model"), ("empty", b"")):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(damaged)
        with pytest.raises(RuntimeFailure, match=f"can't load {name}"):
            interpreter.load(path)
    with pytest.raises(RuntimeFailure, match="no file"):
        interpreter.load(tmp_path / "absent.tflite")


def test_operators_that_litert_lacks_are_named(handmade, tmp_path):
    from modelexport_tflite import files

    model = handmade.model()
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = 32
    model.operatorCodes[0].customCode = b"Mine"
    files.write(model, tmp_path / "mine.tflite")
    with pytest.raises(RuntimeFailure, match=r"LiteRT lacks operators of mine\.tflite: Custom\(Mine\)"):
        interpreter.load(tmp_path / "mine.tflite")


INT8 = Slot(0, np.int8, (2,), 0.5, 10)
INT32 = Slot(0, np.int32, (2,), 0.0, 0)


def test_floats_go_into_quantized_inputs_and_come_out_again():
    spec = TensorSpec("x", "float32", (3,))
    inside = session._to_file(spec, np.array([0.0, 1.1, 1000.0], np.float32), INT8)
    assert inside.tolist() == [10, 12, 127]
    outside = session._from_file(spec, inside, INT8)
    assert outside.dtype == np.float32
    assert outside.tolist() == [0.0, 1.0, 58.5]


def test_wide_integers_must_fit():
    spec = TensorSpec("ids", "int64", (2,))
    assert session._to_file(spec, np.array([1, -(2**31)]), INT32).dtype == np.int32
    assert session._from_file(spec, np.array([1, 2], np.int32), INT32).dtype == np.int64
    with pytest.raises(InputError, match="'ids' holds values beyond 32 bits"):
        session._to_file(spec, np.array([0, 2**31]), INT32)


def test_the_signature_is_chosen_by_the_sizes_of_the_inputs():
    specs = tuple(map(TensorSpec.parse, ("x:float32[n,seq]", "mask:float32[n,seq,w]")))
    artifact = SimpleNamespace(inputs=specs, details={"signatures": {"a": {"w": 1, "seq": 2}}})
    places = session._places(artifact)
    assert places == [("mask", 2), ("x", 1)]
    assert session._sizes(places, {"x": np.zeros((4, 7)), "mask": np.zeros((4, 7, 9))}) == (9, 7)
