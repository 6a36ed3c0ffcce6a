"""Files of ONNX models: weights inside the protobuf, or beside it where it could not hold them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelexport.errors import ConversionError, first_line

from . import backend

#: above this, weights go to a file of their own: a protobuf message ends at 2 GiB
INLINE_BYTES = 1_800_000_000

#: what the model's file is called in every artifact
FILE = "model.onnx"


def load(path: Path) -> Any:
    """The `onnx.ModelProto` with all its weights in memory. Raises ConversionError for a damaged file."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(str(path))
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise ConversionError(
            f"{path.name} is no ONNX model, or a damaged one: {first_line(error)}", "export the model again"
        ) from error


def load_graph(path: Path) -> Any:
    """The `onnx.ModelProto` without the weights that lie beside it: quick, however large the model is."""
    import onnx

    return onnx.load(str(path), load_external_data=False)


def save(model: Any, path: Path) -> None:
    """Write an `onnx.ModelProto`, with `NAME.data` beside it where needed. The model stays as it is."""
    if weight_bytes(model) <= INLINE_BYTES:
        path.write_bytes(model.SerializeToString())
        return
    import onnx_ir

    with backend.rewriting():
        onnx_ir.save(onnx_ir.from_proto(model), path, external_data=f"{path.name}.data")


def copy(path: Path, out: Path) -> None:
    """Copy a model's file as `model.onnx` into `out`, with its external data.

    Raises ConversionError when the external data lies outside the model's folder.
    """
    shutil.copyfile(path, out / FILE)
    for name in _external_files(load_graph(path)):
        place = out / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path.parent / name, place)


def size(path: Path) -> int:
    """Bytes of a model's file and its external data."""
    names = _external_files(load_graph(path))
    return path.stat().st_size + sum((path.parent / name).stat().st_size for name in names)


def weight_bytes(model: Any) -> int:
    """Bytes of all tensors in a model's main graph, in memory."""
    return sum(int(tensor.ByteSize()) for tensor in _tensors(model))


def _tensors(model: Any) -> Iterator[Any]:
    yield from model.graph.initializer
    for node in model.graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def _external_files(model: Any) -> set[str]:
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    names = {ExternalDataInfo(t).location for t in _tensors(model) if uses_external_data(t)}
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ConversionError(
                f"the model keeps weights at {name!r}, outside its folder", "don't use this file"
            )
    return names
