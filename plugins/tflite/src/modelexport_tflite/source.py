"""Sources: a `.tflite` file by whoever made it, a `.keras` file, a SavedModel folder.

A `.tflite` file is its own reference, run without delegates, so that the gate on the artifact (which runs with
XNNPACK) checks at least the delegate. What TensorFlow reads has TensorFlow as its reference.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Build, Dim, LoadOptions, Source, TensorSpec
from modelexport.errors import MxError, SourceError, UnsafeFileError
from modelexport.toolkit import importable

from .flatbuffer import FILE

if TYPE_CHECKING:
    from modelexport.contract import Arrays

_HDF5 = b"\x89HDF\r\n\x1a\n"


def load(ref: str, options: LoadOptions) -> Source | None:
    """The model at `ref`, or None for what is neither TFLite nor TensorFlow.

    Raises SourceError for a missing or damaged file, or where TensorFlow is not installed; UnsafeFileError for an
    HDF5 file, or Lambda layers, unless `options.allow_pickle`.
    """
    path = Path(ref)
    if path.suffix == ".tflite":
        _present(path)
        return _tflite(path)
    if path.suffix == ".keras":
        _present(path)
    elif path.suffix in (".h5", ".hdf5") and path.is_file() and _starts(path, _HDF5):
        if not options.allow_pickle:
            raise UnsafeFileError(
                f"{path} is an HDF5 file: loading a model from one may run Python code that it holds",
                "save it as .keras, or give --allow-pickle if you trust who made it",
            )
    elif not (path / "saved_model.pb").is_file():
        return None
    if not importable("tensorflow"):
        raise SourceError(f"reading {path} needs tensorflow", "pip install 'modelexport-tflite[tensorflow]'")
    from . import keras

    return keras.load_saved(path) if path.is_dir() else keras.load_keras(path, options.allow_pickle)


def export(source: Source, out: Path) -> Build:
    """Write `model.tflite` into `out`: a `.tflite` source byte for byte, others converted by TensorFlow."""
    assert source.path is not None
    from . import export, flatbuffer, metadata

    if source.format == "tflite":
        shutil.copyfile(source.path, out / FILE)
        tools: tuple[str, ...] = ("ai-edge-litert",)
        behind: list[str] = []
    else:
        from . import keras

        keras.convert(source, out / FILE)
        tools = ("tensorflow", "ai-edge-litert")
        behind = metadata.append(out / FILE, source.processing)
    model = flatbuffer.read(out / FILE)
    details = {**export.describe(out / FILE, model), "processing": behind}
    keys = flatbuffer.signatures(model)
    notes = (f"of the signatures {', '.join(keys)}, the artifact is the first",) if len(keys) > 1 else ()
    precision = "int8" if flatbuffer.weights(model).get("int8") and source.format != "tflite" else "float32"
    return Build(FILE, tools, precision, details, notes)


def _present(path: Path) -> None:
    if not path.is_file():
        raise SourceError(f"no file {path}", f"give the path of a {path.suffix} file")


def _starts(path: Path, mark: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(mark)) == mark


# --------------------------------------------------------------------------------------- .tflite


def _tflite(path: Path) -> Source:
    from . import flatbuffer, session

    flatbuffer.read(path)  # says what is wrong with a file, where the interpreter might crash
    try:
        interpreter = session.load(path, delegate="none")
    except MxError as error:
        raise SourceError(error.message, error.hint) from error
    taken, given = session.details(interpreter)
    inputs = tuple(spec_of(name, detail["dtype"], detail["shape_signature"]) for name, detail in taken.items())
    run = session.Direct(interpreter, list(taken), list(given))

    def reference(arrays: Arrays) -> Arrays:
        return run(dict(arrays))

    return Source(inputs=inputs, outputs=tuple(given), format="tflite", path=path, reference=reference)


def spec_of(name: str, dtype: Any, shape: Any) -> TensorSpec:
    """An input as a file declares it; sizes that it leaves open are dims, the first of them `batch`."""
    import numpy as np

    kind = np.dtype(dtype)
    if kind.kind not in "iufbc":
        raise SourceError(f"input {name!r} holds {kind.name}, not numbers", "cut it off the model")
    sizes = tuple(
        int(size) if size is not None and size > 0 else Dim("batch" if axis == 0 else f"{name}_dim{axis}")
        for axis, size in enumerate(shape)
    )
    values = (float(np.iinfo(kind).min), float(np.iinfo(kind).max)) if kind.name in ("int8", "uint8") else None
    return TensorSpec(name, kind.name, sizes, values)
