"""Keras models and SavedModels: loading them with TensorFlow, and converting them with its own converter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from modelexport.contract import Source, TensorSpec, stage
from modelexport.errors import (
    ConversionError,
    MxError,
    ReferenceError,
    SourceError,
    UnsafeFileError,
)
from modelexport.toolkit import reading, scratch, translated

from . import files, kerasfile, savedmodel
from .backend import quiet, said
from .files import DEFAULT_SIGNATURE

if TYPE_CHECKING:
    from modelexport.contract import Arrays


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
        inputs, outputs = signature.inputs, signature.outputs
        return cls(
            key,
            {name: inputs[name].name for name in sorted(inputs)},
            {name: outputs[name].name for name in sorted(outputs)},
        )


# --------------------------------------------------------------------------------------- Keras


def load_keras(path: Path, unsafe: bool) -> Source:
    """A `.keras` (or HDF5) file. Raises SourceError; UnsafeFileError where it may run code, unless `unsafe`."""
    if not unsafe:
        kerasfile.check(path)
    stage("load with Keras")
    with quiet():
        import keras

        with translated(lambda error: _refused(path, error)):
            model = keras.models.load_model(path, compile=False, safe_mode=not unsafe)
            if not getattr(model, "inputs", None):
                raise SourceError(f"{path} does not say which shapes it takes", "build the model before saving it")
            return _keras_source(path, model)


def _keras_source(path: Path, model: Any) -> Source:
    """The model as a function of its inputs by name."""
    import tensorflow as tf

    names = [tensor.name.partition(":")[0] for tensor in model.inputs]
    signature = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name) for name, tensor in zip(names, model.inputs, strict=True)
    ]
    outputs = tuple(f"{name}_out" if name in names else name for name in _output_names(model))

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def serve(*tensors: Any) -> Any:
        argument: Any = list(tensors) if len(tensors) > 1 else tensors[0]
        return dict(zip(outputs, tf.nest.flatten(model(argument, training=False)), strict=True))

    owner = tf.Module()
    owner.kept = [variable.value for variable in model.variables]

    def reference(arrays: Arrays) -> Arrays:
        with translated(_failed):
            found = serve(*(tf.constant(arrays[name]) for name in names))
            return {name: value.numpy() for name, value in found.items()}

    inputs = tuple(files.spec_of(spec.name, spec.dtype.as_numpy_dtype, spec.shape) for spec in signature)
    traced = Traced(serve.get_concrete_function(), owner)
    return Source(traced, inputs, outputs=outputs, format="keras", path=path, reference=reference)


def _output_names(model: Any) -> list[str]:
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
        f"Keras can't load {path}: {type(error).__name__}: {said(error)}",
        "layers of your own must be registered with keras.saving.register_keras_serializable",
    )


# --------------------------------------------------------------------------------------- SavedModel


def load_saved(path: Path, unsafe: bool) -> Source:
    """A SavedModel folder: its signature `serving_default`, or the only one.

    Raises SourceError; UnsafeFileError where it does more than compute, unless `unsafe`.
    """
    stage("load with TensorFlow")
    with quiet(), reading(path, "SavedModel"):
        if not unsafe:
            savedmodel.check(path)
        session, signatures = _graph(path)
        key = _signature(path, signatures)
        graph = Graph.of(key, signatures[key])
        inputs = tuple(_saved_spec(name, signatures[key].inputs[name]) for name in graph.inputs)

    def reference(arrays: Arrays) -> Arrays:
        feeds = {graph.inputs[name]: array for name, array in arrays.items()}
        with translated(_failed):
            outputs: Arrays = session.run(graph.outputs, feeds)
        return outputs

    return Source(
        graph, inputs, outputs=tuple(graph.outputs), format="saved_model", path=path, reference=reference
    )


def _signature(path: Path, signatures: Mapping[str, Any]) -> str:
    """The name of the signature that is taken. Raises SourceError where it is not clear which."""
    if DEFAULT_SIGNATURE not in signatures and len(signatures) != 1:
        raise SourceError(
            f"{path} has the signatures {', '.join(signatures) or '(none)'}, not {DEFAULT_SIGNATURE}",
            "save it with signatures={'serving_default': …}",
        )
    return DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in signatures else next(iter(signatures))


def _saved_spec(name: str, tensor: Any) -> TensorSpec:
    import tensorflow as tf

    dtype = tf.dtypes.as_dtype(tensor.dtype).as_numpy_dtype
    return files.spec_of(name, dtype, [dim.size for dim in tensor.tensor_shape.dim])


def _graph(path: Path) -> tuple[Any, dict[str, Any]]:
    """A session on a SavedModel's graph, and its signatures.

    Every version of TensorFlow can read the graph; objects that Keras saved beside it may be of another version.
    """
    import tensorflow as tf

    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        signatures = dict(tf.compat.v1.saved_model.load(session, ["serve"], str(path)).signature_def)
    signatures.pop("__saved_model_init_op", None)
    return session, signatures


def _failed(error: Exception) -> ReferenceError:
    return ReferenceError(
        f"the model fails in TensorFlow: {type(error).__name__}: {said(error)}",
        "the model itself fails on these inputs; --debug shows the whole trace",
    )


# --------------------------------------------------------------------------------------- conversion


def convert(source: Source, path: Path) -> None:
    """Write the file, under the model's own names. Raises ConversionError naming operators that LiteRT lacks.

    Both kinds go through a graph whose variables are frozen: left as they are, LiteRT would find them empty.
    """
    with quiet(), scratch("keras") as folder, translated(_untranslated):
        saved, graph = _saved(source, folder)
        path.write_bytes(_converted(saved, graph))
    model = files.read(path)
    files.sign(model, DEFAULT_SIGNATURE, graph.inputs, graph.outputs)
    files.write(model, path)


def _saved(source: Source, folder: Path) -> tuple[Path, Graph]:
    """The source as a SavedModel, which a Keras model is written into `folder` as, and its signature."""
    import tensorflow as tf

    model: Traced | Graph = source.module
    if isinstance(model, Graph):
        assert source.path is not None
        return source.path, model
    tf.saved_model.save(model.owner, str(folder), signatures={DEFAULT_SIGNATURE: model.function})
    _, signatures = _graph(folder)
    return folder, Graph.of(DEFAULT_SIGNATURE, signatures[DEFAULT_SIGNATURE])


def _converted(saved: Path, graph: Graph) -> bytes:
    import tensorflow as tf

    converter = tf.compat.v1.lite.TFLiteConverter.from_saved_model(str(saved), signature_key=graph.key)
    converted: bytes = converter.convert()
    return converted


def _untranslated(error: Exception) -> ConversionError:
    missing = sorted(set(re.findall(r"'(tf\.\w+)' op is neither", str(error))))
    if missing:
        return ConversionError(
            f"{len(missing)} operators have no LiteRT form: {', '.join(missing)}",
            "replace them: Select TF operators are left out, since LiteRT lacks them",
        )
    return ConversionError(
        f"TensorFlow can't convert the model: {type(error).__name__}: {said(error)}",
        "--debug shows the whole trace",
    )
