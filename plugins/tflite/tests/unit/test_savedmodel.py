"""SavedModels whose operators read files, run code or end the process are refused; those that compute are not."""

import numpy as np
import pytest
from modelexport.contract import LoadOptions
from modelexport.errors import ReferenceError, SourceError, UnsafeFileError
from modelexport_tflite import mx_load, savedmodel

tf = pytest.importorskip("tensorflow")
raw = tf.raw_ops

VECTOR = tf.TensorSpec([1, 4], tf.float32, "x")


def number(tensor):
    return tf.cast(tf.size(tensor), tf.float32)


def save(folder, compute, spec=VECTOR):
    class Net(tf.Module):
        def __init__(self):
            super().__init__()
            self.weight = tf.Variable(tf.ones([4]))

        @tf.function(input_signature=[spec])
        def serve(self, x):
            return {"y": compute(x), "w": self.weight}

    net = Net()
    tf.saved_model.save(net, str(folder), signatures={"serving_default": net.serve})
    return folder


def load(folder):
    return mx_load(str(folder), LoadOptions())


def edited(folder, change):
    """The SavedModel, with its first graph changed by hand."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    change(saved.meta_graphs[0])
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    return folder


def node(graph, operator):
    """The first node of an operator, in the functions too."""
    library = graph.graph_def.library.function
    nodes = [*graph.graph_def.node, *(node for function in library for node in function.node_def)]
    return next(node for node in nodes if node.op == operator)


def remapped(x):
    return x + raw.LoadAndRemapMatrix(
        ckpt_path="/etc/passwd",
        old_tensor_name="a",
        row_remapping=[0],
        col_remapping=[],
        initializing_values=[],
        num_rows=1,
        num_cols=4,
    )


READING = {
    "ImmutableConst": lambda x: x + raw.ImmutableConst(dtype=tf.float32, shape=[4], memory_region_name="/etc/x"),
    "RecordInput": lambda x: x + number(raw.RecordInput(file_pattern="/etc/*")),
    "GenerateVocabRemapping": lambda x: (
        x
        + number(
            raw.GenerateVocabRemapping(
                new_vocab_file="/etc/x", old_vocab_file="/etc/x", new_vocab_offset=0, num_new_vocab=4
            )[0]
        )
    ),
    "LoadAndRemapMatrix": remapped,
    "DecodeProtoV2": lambda x: (
        x + number(raw.DecodeProtoV2(bytes=[""], message_type="a", field_names=[], output_types=[]).sizes)
    ),
    "RestoreV2": lambda x: (
        x + raw.RestoreV2(prefix="/etc/x", tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32])[0]
    ),
    "Restore": lambda x: x + raw.Restore(file_pattern="/etc/x", tensor_name="a", dt=tf.float32),
    "FixedUnigramCandidateSampler": lambda x: (
        x
        + number(
            raw.FixedUnigramCandidateSampler(
                true_classes=tf.zeros([1, 1], tf.int64),
                num_true=1,
                num_sampled=1,
                unique=True,
                range_max=1,
                vocab_file="/etc/x",
            )[0]
        )
    ),
    "ReadFile": lambda x: x + number(tf.io.read_file("/etc/x")),
}


@pytest.mark.parametrize("operator", READING)
def test_operators_that_read_files_are_refused(operator, tmp_path):
    folder = save(tmp_path / "saved", READING[operator])
    with pytest.raises(UnsafeFileError, match=f"touch files or code: {operator} ") as caught:
        load(folder)
    assert "--allow-pickle" in caught.value.hint


def test_operators_that_python_does_not_offer_are_refused(tmp_path):
    def change(graph):
        product = node(graph, "Mul")
        product.op = "Skipgram"
        product.attr["filename"].s = b"/etc/x"

    folder = edited(save(tmp_path / "saved", lambda x: x * 2), change)
    with pytest.raises(UnsafeFileError, match="touch files or code: Skipgram"):
        load(folder)


def test_operators_that_end_the_process_are_refused(tmp_path):
    def ending(x):
        raw.Abort()
        return x * 2

    with pytest.raises(UnsafeFileError, match="touch files or code: Abort"):
        load(save(tmp_path / "saved", ending))


def test_the_name_of_a_file_may_be_an_argument_of_a_function(tmp_path):
    def change(graph):
        attribute = node(graph, "ImmutableConst").attr["memory_region_name"]
        attribute.Clear()
        attribute.placeholder = "where"

    folder = edited(save(tmp_path / "saved", READING["ImmutableConst"]), change)
    with pytest.raises(UnsafeFileError, match="ImmutableConst"):
        load(folder)


def test_variables_are_read_from_the_folder_and_nowhere_else(tmp_path):
    folder = save(tmp_path / "saved", lambda x: x * 2)
    savedmodel.check(folder)

    def elsewhere(graph):
        restore = node(graph, "RestoreV2")
        restore.input[0] = restore.input[1]

    edited(folder, elsewhere)
    with pytest.raises(UnsafeFileError, match="RestoreV2"):
        load(folder)


def test_what_restores_variables_is_not_called_with_other_names(tmp_path):
    def change(graph):
        call = next(
            node for node in graph.graph_def.node if node.name == graph.saver_def.restore_op_name.split(":")[0]
        )
        other = graph.graph_def.node.add(name="other", op="Const")
        other.attr["dtype"].type = 7
        other.attr["value"].tensor.CopyFrom(tf.make_tensor_proto("/etc/x"))
        call.input[0] = "other"

    folder = edited(save(tmp_path / "saved", lambda x: x * 2), change)
    with pytest.raises(UnsafeFileError, match="RestoreV2"):
        load(folder)


def test_functions_that_stand_for_each_other_are_looked_at(tmp_path):
    def change(graph):
        library = graph.graph_def.library.function
        serving = next(function for function in library if any(node.op == "Mul" for node in function.node_def))
        serving.attr["api_implements"].s = b"same"
        other = library.add()
        other.CopyFrom(serving)
        other.signature.name = "other"
        other.node_def.add(name="read", op="ReadFile", input=["x"])

    folder = edited(save(tmp_path / "saved", lambda x: x * 2), change)
    with pytest.raises(UnsafeFileError, match="ReadFile"):
        load(folder)


def test_gradients_of_functions_are_looked_at(tmp_path):
    def change(graph):
        library = graph.graph_def.library
        reading = library.function.add()
        reading.signature.name = "reading"
        reading.node_def.add(name="read", op="ReadFile", input=["x"])
        library.gradient.add(function_name="other", gradient_func="reading")
        for _ in range(64):
            library.gradient.add(function_name="reading", gradient_func="reading")
        product = node(graph, "Mul")
        product.op = "SymbolicGradient"
        product.attr["f"].func.name = "other"

    folder = edited(save(tmp_path / "saved", lambda x: x * 2), change)
    with pytest.raises(UnsafeFileError, match="ReadFile"):
        load(folder)


def test_operators_that_tensorflow_lacks_are_named(tmp_path):
    def change(graph):
        node(graph, "Mul").op = "MulOfMine"

    folder = edited(save(tmp_path / "saved", lambda x: x * 2), change)
    with pytest.raises(SourceError, match="operators that TensorFlow lacks: MulOfMine"):
        load(folder)


def texts(x):
    lowered = tf.strings.regex_replace(tf.strings.lower(x), "[^a-z]", "")
    return tf.strings.to_hash_bucket_fast(tf.strings.split(lowered).flat_values, 10)


COMPUTING = {
    "texts": (texts, tf.TensorSpec([None], tf.string, "x")),
    "images": (
        lambda x: tf.image.resize(tf.io.decode_jpeg(x, channels=3), [4, 4]),
        tf.TensorSpec([], tf.string, "x"),
    ),
    "examples": (
        lambda x: tf.io.parse_example(x, {"a": tf.io.FixedLenFeature([2], tf.float32)})["a"],
        tf.TensorSpec([None], tf.string, "x"),
    ),
    "numbers": (
        lambda x: tf.cond(
            tf.reduce_sum(x) > 0,
            lambda: tf.einsum("ab,cb->ac", x, x),
            lambda: tf.debugging.check_numerics(x, "no"),
        ),
        VECTOR,
    ),
}


@pytest.mark.parametrize(("compute", "spec"), COMPUTING.values(), ids=COMPUTING)
def test_what_only_computes_passes(compute, spec, tmp_path):
    savedmodel.check(save(tmp_path / "saved", compute, spec))


def test_variables_and_tables_of_the_first_tensorflow_pass(tmp_path):
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 4], "x")
        weight = v1.get_variable("w", [4, 2], use_resource=False)
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant(["a"]), tf.constant([1.0])), 0.0
        )
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        y = x @ weight + table.lookup(tf.constant(["a"]))
        v1.saved_model.simple_save(session, str(tmp_path / "saved"), {"x": x}, {"y": y}, v1.tables_initializer())
        expected = session.run(y, {x: np.ones((1, 4), "float32")})
    found = load(tmp_path / "saved").reference({"x": np.ones((1, 4), "float32")})
    np.testing.assert_allclose(found["y"], expected)


def test_what_fails_when_called_is_told_on_one_line(tmp_path):
    ones = np.ones((1, 4), "float32")
    net = tf.keras.Sequential([tf.keras.Input((4,), name="x"), tf.keras.layers.Embedding(1, 2)])
    net.save(tmp_path / "net.keras")
    folder = save(tmp_path / "saved", lambda x: tf.gather(x, tf.cast(x[0, :1], tf.int32) + 7))
    for source in load(folder), load(tmp_path / "net.keras"):
        with pytest.raises(ReferenceError, match=r"fails in TensorFlow: \w+Error: indices\[.* is not in \[0, 1\)"):
            source.reference({"x": ones})


def test_what_fails_when_loaded_is_told(tmp_path):
    folder = save(tmp_path / "saved", lambda x: x * 2)
    (folder / "variables" / "variables.index").write_bytes(b"none")
    with pytest.raises(SourceError, match="is no SavedModel, or a damaged one"):
        load(folder)
