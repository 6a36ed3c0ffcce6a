"""An existing .pte file as a source, whoever made it: it is its own reference.

A program knows its inputs by position, dtype and largest sizes. Which dims are dynamic, and what the inputs are
called, can be declared with --input.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelexport.contract import Build, LoadOptions, Source, TensorSpec
from modelexport.errors import SourceError, first_line
from modelexport.toolkit import check_readable, copy_as, declared, reading

from . import backend, files, session

#: ExecuTorch's numbers of dtypes
_DTYPES = dict(enumerate(["uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"])) | {
    11: "bool",
    15: "bfloat16",
}


def load(ref: str, options: LoadOptions) -> Source | None:
    """The program at `ref` as a source; None for anything but a .pte.

    Raises SourceError for a damaged file, and one whose inputs are no tensors or not those declared.
    """
    path = Path(ref)
    if path.suffix != ".pte":
        return None
    check_readable(path, "a .pte file", ("torch", "executorch"), "pip install 'modelexport-executorch[run]'")
    with reading(path, "ExecuTorch program"):
        backend.kernels([backend.QUANTIZED])  # a program does not say which it needs before it is loaded
        method = files.load(path)
        interface = method.method_meta()
        own = _inputs(path, interface)
    specs = declared(path, own, options)
    outputs = tuple(f"output_{index}" for index in range(interface.num_outputs()))
    call = session.caller(method, [spec.name for spec in specs], outputs)
    return Source(
        inputs=specs, outputs=outputs, format="executorch", path=path, reference=lambda inputs: call(inputs)
    )


def _inputs(path: Path, interface: Any) -> list[TensorSpec]:
    """The program's own inputs, at the largest sizes. Raises SourceError where one is no tensor."""
    try:
        return [_spec(interface.input_tensor_meta(index), index) for index in range(interface.num_inputs())]
    except Exception as error:
        raise SourceError(
            f"{path} takes something other than tensors: {first_line(error)}", "wrap the model"
        ) from error


def _spec(info: Any, index: int) -> TensorSpec:
    return TensorSpec(f"input_{index}", _DTYPES[int(info.dtype())], tuple(info.sizes()))


def copy_file(source: Source, out: Path) -> Build:
    """Carry an existing program into `out` as it is."""
    copy_as(source, out / files.FILE)
    return Build(files.FILE, ("executorch",), details={"kernels": files.kernels_in(out / files.FILE)})
