"""Models that others made: .tflite files, .keras files, SavedModel folders."""

import importlib.util
from pathlib import Path

import modelexport as mx
import numpy as np
import pytest
from modelexport import api
from modelexport.errors import SourceError, UnsafeFileError

#: basic-pitch scales a spectrum by its own extremes, so rounding shows where there is no sound
SILENCE = "atol=0.1,rtol=0.1"


def adopt(path, folder, **keywords):
    (artifact,) = mx.export(str(path), ["tflite"], folder, **keywords)
    return artifact


@pytest.fixture(scope="module")
def pitch():
    """The folder of one net in several formats, converted by its authors; and what their ONNX file answers."""
    onnxruntime = pytest.importorskip("onnxruntime")
    spec = importlib.util.find_spec("basic_pitch")
    if spec is None:
        pytest.skip("needs basic-pitch: pip install --no-deps basic-pitch")
    folder = Path(spec.origin).parent / "saved_models" / "icassp_2022"
    seconds = np.arange(43844) / 22050
    sound = sum(np.sin(2 * np.pi * hertz * seconds) for hertz in (261.63, 329.63, 392.0))
    x = (sound / 3 * 0.8).astype(np.float32)[None, :, None]
    session = onnxruntime.InferenceSession(str(folder / "nmp.onnx"))
    return folder, x, session.run(None, {session.get_inputs()[0].name: x})


def as_their_onnx(artifact, x, wanted):
    with api.run(artifact.path) as session:
        found = session({"input_2": x})
    assert sorted(found) == ["contour", "note", "onset"]
    for array in found.values():
        assert min(float(abs(array - want).max()) for want in wanted if want.shape == array.shape) < 1e-3


def test_a_tflite_file_by_others_gives_what_their_onnx_gives(pitch, tmp_path):
    folder, x, wanted = pitch
    artifact = adopt(folder / "nmp.tflite", tmp_path, tolerance=SILENCE)
    assert artifact.entry_path.read_bytes() == (folder / "nmp.tflite").read_bytes()
    assert str(artifact.inputs[0]) == "input_2:float32[batch,43844,1]"
    as_their_onnx(artifact, x, wanted)


def test_a_saved_model_by_others_gives_what_their_onnx_gives(pitch, tmp_path):
    pytest.importorskip("tensorflow")
    folder, x, wanted = pitch
    artifact = adopt(folder / "nmp", tmp_path, tolerance=SILENCE)
    assert str(artifact.inputs[0]) == "input_2:float32[batch,43844,1]"
    assert artifact.parity.verified is True
    as_their_onnx(artifact, x, wanted)


# --------------------------------------------------------------------------------------- Keras


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A small CNN, trained on digits; its folder, and images with their labels."""
    pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    data = pytest.importorskip("sklearn.datasets").load_digits()
    images, labels = (data.images[..., None] / 16).astype(np.float32), data.target
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10, activation="softmax", name="digit"),
        ]
    )
    net.compile("adam", "sparse_categorical_crossentropy")
    net.fit(images[:1400], labels[:1400], epochs=12, batch_size=32, verbose=0)
    folder = tmp_path_factory.mktemp("keras")
    net.save(folder / "digits.keras")
    net.save(folder / "digits.h5")
    net.export(folder / "saved", verbose=False)
    np.savez(folder / "images.npz", image=images[:64])
    return folder, images[1400:], labels[1400:], net


def test_a_keras_model_trained_on_digits(digits, tmp_path):
    folder, images, labels, net = digits
    artifact = adopt(folder / "digits.keras", tmp_path)
    assert artifact.parity.verified is True
    assert max(row.max_abs for row in artifact.parity.outputs) < 1e-5
    assert [str(spec) for spec in artifact.inputs] == ["image:float32[batch,8,8,1]"]
    assert [spec.name for spec in artifact.outputs] == ["digit"]
    with api.run(artifact.path) as session:
        found = session({"image": images})["digit"]
    np.testing.assert_allclose(found, net.predict(images, verbose=0), atol=1e-5)
    assert (found.argmax(1) == labels).mean() > 0.8

    small = api.quantize(artifact.path, tmp_path / "int8.tflite", calibration=folder / "images.npz")
    assert small.parity.verified is True
    assert small.entry_path.stat().st_size < 0.6 * artifact.entry_path.stat().st_size
    with api.run(small.path) as session:
        assert (session({"image": images})["digit"].argmax(1) == found.argmax(1)).mean() > 0.97


def test_a_saved_model_that_keras_exported(digits, tmp_path):
    folder, images, _, net = digits
    artifact = adopt(folder / "saved", tmp_path)
    assert artifact.parity.verified is True
    (name,) = (spec.name for spec in artifact.inputs)
    with api.run(artifact.path) as session:
        (found,) = session({name: images[:3]}).values()
    np.testing.assert_allclose(found, net.predict(images[:3], verbose=0), atol=1e-5)


def test_hdf5_needs_the_flag(digits, tmp_path):
    folder, *_ = digits
    with pytest.raises(UnsafeFileError) as caught:
        adopt(folder / "digits.h5", tmp_path)
    assert "--allow-pickle" in caught.value.hint
    assert adopt(folder / "digits.h5", tmp_path, allow_pickle=True).parity.verified is True


def test_a_lambda_layer_needs_the_flag(digits, tmp_path):
    keras = pytest.importorskip("keras")
    net = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2)])
    net.save(tmp_path / "lambda.keras")
    with pytest.raises(UnsafeFileError) as caught:
        adopt(tmp_path / "lambda.keras", tmp_path)
    assert "--allow-pickle" in caught.value.hint


def test_a_damaged_keras_file_is_named(tmp_path):
    pytest.importorskip("tensorflow")
    (tmp_path / "text.keras").write_text("no archive")
    with pytest.raises(SourceError, match=r"text\.keras is no \.keras file, or a damaged one"):
        adopt(tmp_path / "text.keras", tmp_path)


@pytest.mark.parametrize("where", ["called", "loaded", "in a function"])
def test_a_saved_model_that_writes_files_needs_the_flag(where, tmp_path):
    tf = pytest.importorskip("tensorflow")
    marker = tmp_path / "lit"

    @tf.function
    def inside(name, text):
        tf.io.write_file(name, text)
        return tf.constant(0)

    class Net(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "x")])
        def serve(self, x):
            write = inside if where == "in a function" else tf.io.write_file
            with tf.control_dependencies([write(str(marker), "lit")]):
                return {"y": x * 2}

    if where == "loaded":
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            x = tf.compat.v1.placeholder(tf.float32, [None, 4], "x")
            tf.compat.v1.saved_model.simple_save(
                session, str(tmp_path / "saved"), {"x": x}, {"y": x * 2}, tf.io.write_file(str(marker), "lit")
            )
    else:
        net = Net()
        tf.saved_model.save(net, str(tmp_path / "saved"), signatures={"serving_default": net.serve})
    with pytest.raises(UnsafeFileError, match="operators that touch files or code: WriteFile") as caught:
        adopt(tmp_path / "saved", tmp_path)
    assert "--allow-pickle" in caught.value.hint
    assert not marker.exists()


def test_a_damaged_saved_model_is_named(tmp_path):
    pytest.importorskip("tensorflow")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"no graph")
    with pytest.raises(SourceError, match=r"saved is no SavedModel, or a damaged one"):
        adopt(tmp_path / "saved", tmp_path)
