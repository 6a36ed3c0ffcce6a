"""Keras models and SavedModels: loading them with TensorFlow, and converting them with its own converter."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from modelexport.contract import Source
from modelexport.errors import ConversionError, MxError, SourceError, UnsafeFileError, first_line, is_disk_error

from . import flatbuffer
from .source import spec_of
from .terminal import quiet

if TYPE_CHECKING:
    from modelexport.contract import Arrays

DEFAULT = "serving_default"


class Traced(NamedTuple):
    """A Keras model as a function, and what holds its variables."""

    function: Any
    owner: Any


class Graph(NamedTuple):
    """A signature of a SavedModel: the names of its inputs and outputs, and of their tensors."""

    key: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    @classmethod
    def of(cls, key: str, signature: Any) -> Graph:
        taken, given = signature.inputs, signature.outputs
        return cls(
            key,
            {name: taken[name].name for name in sorted(taken)},
            {name: given[name].name for name in sorted(given)},
        )


def load_keras(path: Path, unsafe: bool) -> Source:
    """A `.keras` (or HDF5) file. Raises SourceError, or UnsafeFileError for Lambda layers unless `unsafe`."""
    with quiet():
        import keras
        import tensorflow as tf

        try:
            model = keras.models.load_model(path, compile=False, safe_mode=not unsafe)
        except Exception as error:
            raise _refused(path, error) from error
        if not getattr(model, "inputs", None):
            raise SourceError(f"{path} does not say which shapes it takes", "build the model before saving it")
        names = [tensor.name.partition(":")[0] for tensor in model.inputs]
        specs = {
            name: tf.TensorSpec(tensor.shape, tensor.dtype, name)
            for name, tensor in zip(names, model.inputs, strict=True)
        }
        outputs = [f"{name}_out" if name in names else name for name in _outputs(model)]

        @tf.function(input_signature=list(specs.values()))  # type: ignore[untyped-decorator]
        def serve(*tensors: Any) -> Any:
            given: Any = list(tensors) if len(tensors) > 1 else tensors[0]
            return dict(zip(outputs, tf.nest.flatten(model(given, training=False)), strict=True))

        holder = tf.Module()
        holder.kept = [variable.value for variable in model.variables]
        function = serve.get_concrete_function()

    def reference(arrays: Arrays) -> Arrays:
        found = serve(*(tf.constant(arrays[name]) for name in names))
        return {name: value.numpy() for name, value in found.items()}

    inputs = tuple(spec_of(name, spec.dtype.as_numpy_dtype, spec.shape) for name, spec in specs.items())
    return Source(
        Traced(function, holder), inputs, outputs=tuple(outputs), format="keras", path=path,
        reference=reference,
    )  # fmt: skip


def _outputs(model: Any) -> list[str]:
    """Names of the outputs: a Sequential has none but its last layer's."""
    names = list(getattr(model, "output_names", ()) or (model.layers[-1].name,))
    return [name if names.count(name) == 1 else f"{name}_{index}" for index, name in enumerate(names)]


def _refused(path: Path, error: Exception) -> MxError:
    if "safe_mode" in str(error) or "unsafe" in str(error) or "Lambda" in str(error):
        return UnsafeFileError(
            f"{path} holds Python code (a Lambda layer), which loading would run",
            "replace the layer, or give --allow-pickle if you trust who made it",
        )
    return SourceError(
        f"Keras can't load {path}: {type(error).__name__}: {first_line(error)}",
        "layers of your own must be registered with keras.saving.register_keras_serializable",
    )


def load_saved(path: Path) -> Source:
    """A SavedModel folder: its signature `serving_default`, or the only one. Raises SourceError."""
    with quiet():
        import tensorflow as tf

        try:
            session, signatures = _graph(path)
        except Exception as error:
            raise SourceError(
                f"TensorFlow can't load {path}: {type(error).__name__}: {first_line(error)}", "save it again"
            ) from error
    if DEFAULT not in signatures and len(signatures) != 1:
        raise SourceError(
            f"{path} has the signatures {', '.join(signatures) or '(none)'}, not {DEFAULT}",
            "save it with signatures={'serving_default': …}",
        )
    key = DEFAULT if DEFAULT in signatures else next(iter(signatures))
    graph = Graph.of(key, signatures[key])

    def reference(arrays: Arrays) -> Arrays:
        found: Arrays = session.run(graph.outputs, {graph.inputs[name]: array for name, array in arrays.items()})
        return found

    specs = []
    for name in graph.inputs:
        tensor = signatures[key].inputs[name]
        dtype = tf.dtypes.as_dtype(tensor.dtype).as_numpy_dtype
        specs.append(spec_of(name, dtype, [dim.size for dim in tensor.tensor_shape.dim]))
    return Source(
        graph, tuple(specs), outputs=tuple(graph.outputs), format="saved_model", path=path, reference=reference
    )


def _graph(path: Path) -> tuple[Any, dict[str, Any]]:
    """A session on a SavedModel's graph, and its signatures.

    Every version of TensorFlow can read the graph; objects that Keras saved beside it may be of another version.
    """
    import tensorflow as tf

    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        found = dict(tf.compat.v1.saved_model.load(session, ["serve"], str(path)).signature_def)
    found.pop("__saved_model_init_op", None)
    return session, found


# --------------------------------------------------------------------------------------- conversion


def convert(source: Source, path: Path) -> None:
    """Write the file, under the model's own names. Raises ConversionError naming operators that LiteRT lacks.

    Both kinds go through a graph whose variables are frozen: left as they are, LiteRT would find them empty.
    """
    model: Traced | Graph = source.module
    with quiet(), tempfile.TemporaryDirectory(prefix="mx-keras-") as folder:
        import tensorflow as tf

        saved = str(source.path)
        try:
            if isinstance(model, Traced):
                saved = folder
                tf.saved_model.save(model.owner, folder, signatures={DEFAULT: model.function})
                model = Graph.of(DEFAULT, _graph(Path(folder))[1][DEFAULT])
            converter = tf.compat.v1.lite.TFLiteConverter.from_saved_model(saved, signature_key=model.key)
            path.write_bytes(converter.convert())
        except Exception as error:
            if is_disk_error(error):
                raise
            raise _translate(error) from error
    read = flatbuffer.read(path)
    flatbuffer.sign(read, DEFAULT, model.inputs, model.outputs)
    flatbuffer.write(read, path)


def _translate(error: Exception) -> ConversionError:
    missing = sorted(set(re.findall(r"'(tf\.\w+)' op is neither", str(error))))
    if missing:
        return ConversionError(
            f"{len(missing)} operators have no LiteRT form: {', '.join(missing)}",
            "replace them: Select TF operators are left out, since LiteRT lacks them",
        )
    return ConversionError(
        f"TensorFlow can't convert the model: {type(error).__name__}: {first_line(error)}",
        "--debug shows the whole trace",
    )
