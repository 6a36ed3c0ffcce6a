"""Sources: a `.tflite` file by whoever made it, a `.keras` file, a SavedModel folder.

A `.tflite` file is its own reference, run without delegates, so that the gate on the artifact (which runs with
XNNPACK) checks at least the delegate. What TensorFlow reads has TensorFlow as its reference.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelexport.contract import Build, LoadOptions, Source, TensorSpec, stage
from modelexport.errors import OptionError, SourceError, UnsafeFileError
from modelexport.toolkit import check_readable, copy_as, declared, reading

from . import files, inspection, interpreter, keras, metadata
from .files import FILE

if TYPE_CHECKING:
    from modelexport.contract import Arrays

    from . import ExportOptions

#: what reading anything but a `.tflite` file takes, and how to get it
_TENSORFLOW = ("tensorflow",), "pip install 'modelexport-tflite[tensorflow]'"

_HDF5 = b"\x89HDF\r\n\x1a\n"


def load(ref: str, options: LoadOptions) -> Source | None:
    """The model at `ref`, or None for what is neither TFLite nor TensorFlow.

    Raises SourceError for a missing or damaged file, inputs other than `options` declares, or where TensorFlow is
    not installed; UnsafeFileError for what may run code, unless `options.allow_pickle`: HDF5, Lambda layers,
    graphs that touch files.
    """
    path = Path(ref)
    if path.suffix == ".tflite":
        check_readable(path, "a .tflite file", ("ai_edge_litert",), "pip install ai-edge-litert")
        source = _tflite(path)
    elif path.suffix == ".keras" or _is_hdf5(path):
        if path.suffix != ".keras" and not options.allow_pickle:
            raise UnsafeFileError(
                f"{path} is an HDF5 file: loading a model from one may run Python code that it holds",
                "save it as .keras, or give --allow-pickle if you trust who made it",
            )
        check_readable(path, "a .keras file", *_TENSORFLOW)
        source = keras.load_keras(path, options.allow_pickle)
    elif (path / "saved_model.pb").is_file():
        check_readable(path / "saved_model.pb", "a SavedModel's folder", *_TENSORFLOW)
        source = keras.load_saved(path, options.allow_pickle)
    else:
        return None
    return replace(source, inputs=_declared(path, source.specs, options))


def adopt(source: Source, out: Path, options: ExportOptions) -> Build:
    """Write `model.tflite` into `out`: a `.tflite` source byte for byte, others converted by TensorFlow.

    Raises OptionError for a layout, which is the file's own; ConversionError naming operators that LiteRT lacks.
    """
    if options.layout != "nchw":
        raise OptionError(
            f"-k layout={options.layout} is for models of PyTorch: {source.path} keeps its layout", "leave it out"
        )
    path = out / FILE
    is_copied = source.format == "tflite"
    if is_copied:
        copy_as(source, path)
        processing: list[str] = []
    else:
        stage("convert with TensorFlow")
        keras.convert(source, path)
        processing = metadata.append(path, source.processing)
    model = files.read(path)
    details = {**inspection.describe(path, model), "processing": processing}
    keys = files.signatures(model)
    notes = (f"of the signatures {', '.join(keys)}, the artifact is the first",) if len(keys) > 1 else ()
    precision = "int8" if files.weights(model).get("int8") and not is_copied else "float32"
    tools = ("ai-edge-litert",) if is_copied else ("tensorflow", "ai-edge-litert")
    return Build(FILE, tools, precision, details, notes)


def _is_hdf5(path: Path) -> bool:
    if path.suffix not in (".h5", ".hdf5") or not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(_HDF5)) == _HDF5


def _declared(path: Path, own: tuple[TensorSpec, ...], options: LoadOptions) -> tuple[TensorSpec, ...]:
    """The inputs as `--input` declares them, in whatever order: their names are the file's."""
    names = [TensorSpec.parse(text).name for text in options.inputs]
    by_name = {spec.name: spec for spec in own}
    strangers = [name for name in names if name not in by_name]
    if strangers:
        raise SourceError(f"{path} has no input {strangers[0]!r}", f"it takes {', '.join(map(str, own))}")
    return declared(path, [by_name[name] for name in names] if len(names) == len(own) else own, options)


def _tflite(path: Path) -> Source:
    files.read(path)  # says what is wrong with a file, where the interpreter might crash
    with reading(path, "TFLite file"):
        loaded = interpreter.load(path, delegate="none")
        inputs, outputs = interpreter.tensors(loaded)
        specs = tuple(
            files.spec_of(name, tensor["dtype"], tensor["shape_signature"]) for name, tensor in inputs.items()
        )
        run = interpreter.FirstSignature(loaded, list(inputs), list(outputs))

    def reference(arrays: Arrays) -> Arrays:
        return run(dict(arrays))

    return Source(inputs=specs, outputs=tuple(outputs), format="tflite", path=path, reference=reference)
