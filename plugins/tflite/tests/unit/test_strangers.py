"""`.keras` files that would run code, or read other files, are refused before Keras opens them."""

import io
import json
import os
import warnings
import zipfile

import pytest
from modelexport.contract import LoadOptions
from modelexport.errors import SourceError, UnsafeFileError
from modelexport_tflite import kerasfile, mx_load

h5py = pytest.importorskip("h5py")
pytest.importorskip("tensorflow")


def part(kind, module="keras.layers", **config):
    return {"module": module, "class_name": kind, "config": config, "registered_name": None}


def function(module, name):
    return {"module": module, "class_name": "function", "config": name, "registered_name": "function"}


def model(*layers):
    entry = part("InputLayer", batch_shape=[None, 4], dtype="float32", name="x")
    return part("Sequential", "keras", name="net", layers=[entry, *layers])


DENSE = part("Dense", name="dense", units=2, activation="relu")


def weights(change=lambda file: None):
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        values = file.create_group("layers/dense/vars")
        values["0"], values["1"] = [[0.5, 0.25]] * 4, [0.0, 1.0]
        change(file)
    return stream.getvalue()


@pytest.fixture
def write(tmp_path):
    def write(config=None, data=None, more=(), **options):
        path = tmp_path / "net.keras"
        text = config if isinstance(config, str) else json.dumps(config or model(DENSE))
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w", **options) as archive:
            warnings.simplefilter("ignore", UserWarning)
            archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1", "date_saved": ""}))
            archive.writestr("config.json", text)
            archive.writestr("model.weights.h5", data or weights())
            for name, content in more:
                archive.writestr(name, content)
        return path

    return write


def refused(path, match, kind=UnsafeFileError):
    with pytest.raises(kind, match=match) as caught:
        mx_load(str(path), LoadOptions())
    assert kind is SourceError or "--allow-pickle" in caught.value.hint


def test_what_keras_writes_passes(write):
    kerasfile.check(write())
    kerasfile.check(write(model(part("Dense", units=2, activation=function("builtins", "relu")))))


LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wAA", "defaults": None, "closure": None}}

CODE = {
    "lambda": part("Lambda", name="l", function=LAMBDA),
    "lambda by an old name": {"class_name": "Lambda", "config": {"function": ["4wAA", None, None]}},
    "lambda as activation": part("Dense", units=2, activation=LAMBDA),
    "lambda in a wrapper": part("TimeDistributed", layer=part("Lambda", function=LAMBDA)),
    "lambda in another module": part("Lambda", "keras.src.layers.core.lambda_layer", function=LAMBDA),
    "saved model": part("TFSMLayer", filepath="/tmp/other", call_endpoint="serve"),
    "torch": part("TorchModuleWrapper", module="gAJ9"),
    "jax": part("JaxLayer", call_fn=function("builtins", "exec")),
}


@pytest.mark.parametrize("layer", CODE.values(), ids=CODE)
def test_code_is_not_run(layer, write):
    refused(write(model(DENSE, layer)), r"holds Python code .*which loading would run")


STRANGE = {
    "download": part("Dense", units=2, activation=function("keras.utils", "get_file")),
    "another file": part("Dense", units=2, activation=function("keras.saving", "load_model")),
    "data": part("Dense", units=2, activation=function("keras.datasets.mnist", "load_data")),
    "unsafe": part("Dense", units=2, activation=function("keras.config", "enable_unsafe_deserialization")),
    "inside": part("Dense", units=2, activation=function("keras.src.utils.file_utils", "get_file")),
    "module": part("Loader", "keras.src.utils.python_utils"),
    "callback": part("ModelCheckpoint", "keras.callbacks", filepath="x"),
}


@pytest.mark.parametrize("layer", STRANGE.values(), ids=STRANGE)
def test_what_is_no_part_of_a_model_is_not_looked_up(layer, write):
    refused(write(model(DENSE, layer)), r"asks for keras\.[\w.]+, which is no part of a model")


def test_modules_of_others_are_not_imported(write, tmp_path, monkeypatch):
    marker = tmp_path / "lit"
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    refused(write(model(DENSE, part("Evil", "evil"))), "can't load", SourceError)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["StringLookup", "TextVectorization"])
def test_vocabularies_are_in_the_file(kind, write):
    refused(write(model(part(kind, vocabulary="/etc/passwd"))), "reads another file: '/etc/passwd'")


def soft(file):
    file["layers/dense/vars/2"] = h5py.SoftLink("/layers")


def elsewhere(file):
    file["layers/dense/vars/2"] = h5py.ExternalLink("/etc/passwd", "/x")


def stored_elsewhere(file):
    file.create_dataset("layers/dense/vars/2", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (4,))
    file.create_virtual_dataset("layers/dense/vars/2", layout)


def in_itself(file):
    file["layers/dense/again"] = file["layers"]


@pytest.mark.parametrize("change", [soft, elsewhere, stored_elsewhere, virtual, in_itself])
def test_weights_lie_in_the_file(change, write):
    refused(write(data=weights(change)), r"model\.weights\.h5 (links|reads|has a group twice)")


def test_arrays_out_of_nothing(write):
    data = weights(lambda file: file.create_dataset("layers/huge", (1 << 40,), "f4", chunks=(1024,)))
    refused(write(data=data), r"has 4398046511104 bytes of huge", SourceError)


def test_archives_packed_beyond_measure(write):
    more = [("assets/zeros", bytes(80 << 20))]
    refused(write(more=more, compression=zipfile.ZIP_DEFLATED), "packed into", SourceError)


@pytest.mark.parametrize("name", ["../out.h5", "model.weights.npz", "code.py", "assets/../../out", "config.JSON"])
def test_only_what_keras_writes_is_in_it(name, write):
    refused(write(more=[(name, b"x")]), "which Keras does not write")


def test_two_members_of_one_name(write):
    refused(write(more=[("config.json", "{}")]), "two members of one name")


@pytest.mark.parametrize("config", ["[" * 200_000, '{"a": 1, "a": 2}', "", "\ufeff{}", '{"a": NaN}'])
def test_descriptions_that_are_none(config, write):
    refused(write(config), r"config\.json is (nested too deep|no valid JSON|no UTF-8)", SourceError)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
def test_members_that_do_not_unpack(member, method, write):
    path = write(compression=method)
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(member)
    begin, content = entry.header_offset + 30 + len(member), bytearray(path.read_bytes())
    content[begin + 12 : begin + entry.compress_size] = b"\xff" * (entry.compress_size - 12)
    path.write_bytes(content)
    refused(path, r"is no \.keras file, or a damaged one", SourceError)


@pytest.mark.parametrize("value", [["Lambda"], {"a": 1}, 5, True])
@pytest.mark.parametrize("key", ["class_name", "module", "registered_name"])
def test_names_of_layers_are_texts(key, value, write):
    refused(write(model({**DENSE, key: value})), f"is damaged: {key} is no text", SourceError)


@pytest.mark.parametrize("config", ["[1]", "3", "null", '"Lambda"'])
def test_a_description_is_an_object(config, write):
    refused(write(config), r"config\.json is no object", SourceError)


UNTRACED = {
    "takes more": (
        part("Dense", name="dense", units=2, activation=function("keras.ops", "map")),
        r"map\(\) missing",
    ),
    "NUL in its name": (part("Dense", name="a\0b", units=2), "not a valid scope name"),
}


@pytest.mark.parametrize(("layer", "match"), UNTRACED.values(), ids=UNTRACED)
def test_layers_that_fail_are_told_on_one_line(layer, match, write):
    named = weights(lambda file: file.move("layers/dense", f"layers/{layer['class_name'].lower()}"))
    refused(
        write(model(layer), data=named),
        rf"^Keras can't load .*net\.keras: \w+Error: [^\x00-\x1f]*{match}",
        SourceError,
    )


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "net.keras")
    refused(tmp_path / "net.keras", "no file|is a FIFO", SourceError)
