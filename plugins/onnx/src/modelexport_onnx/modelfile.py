"""Files of ONNX models: weights inside the protobuf, or beside it where it could not hold them."""

from __future__ import annotations

import ast
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelexport.errors import ConversionError, first_line
from modelexport.toolkit import quiet

#: above this, weights go to a file of their own: a protobuf message ends at 2 GiB
INLINE_BYTES = 1_800_000_000

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
    """The `onnx.ModelProto` without the weights that lie beside it."""
    import onnx

    return onnx.load(str(path), load_external_data=False)


def save(model: Any, path: Path) -> None:
    """Write an `onnx.ModelProto`, with `NAME.data` beside it where needed. The model stays as it is."""
    if weight_bytes(model) <= INLINE_BYTES:
        path.write_bytes(model.SerializeToString())
        return
    import onnx_ir

    with quiet("onnx_ir"):
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


def operators(model: Any) -> dict[str, int]:
    """How many nodes of each operator a model's main graph has."""
    return dict(sorted(Counter(node.op_type for node in model.graph.node).items()))


def keep_origins(original: Any, model: Any) -> None:
    """Give nodes of `model` the note where they come from, if they lost it: what `original` says of namesakes."""
    origins = {node.name: node.metadata_props for node in original.graph.node if node.name}
    for node in model.graph.node:
        if not node.metadata_props and node.name in origins:
            node.metadata_props.extend(origins[node.name])


def origin(node: Any) -> str:
    """The module of the user's model that a node comes from, as torch.onnx notes it; empty where it is unknown."""
    noted = {item.key: item.value for item in node.metadata_props}.get("pkg.torch.onnx.name_scopes", "[]")
    try:
        scopes = [scope for scope in ast.literal_eval(noted)[:-1] if isinstance(scope, str) and scope]
    except (ValueError, SyntaxError, TypeError):
        return ""  # somebody else's note
    return scopes[-1] if scopes else ""


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
