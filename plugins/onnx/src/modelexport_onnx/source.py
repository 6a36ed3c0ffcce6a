"""An existing .onnx file as a source: its inputs and dims are read from it, and it is its own reference.

The reference runs without graph optimization, so that the gate on the artifact (which runs with it) checks
at least the runtime's own rewriting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelexport.contract import Dim, Source, TensorSpec
from modelexport.errors import SourceError, first_line
from modelexport.toolkit import importable

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(bool)": "bool",
} | {f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


def load(path: Path) -> Source:
    """Raises SourceError when the file is missing, damaged, or takes something other than tensors."""
    if not path.is_file():
        raise SourceError(f"no file {path}", "give the path of a .onnx file")
    for module in ("onnxruntime", "onnx"):
        if not importable(module):
            raise SourceError(f"reading {path} needs {module}", f"pip install {module}")
    from modelexport.errors import MxError

    from . import RunOptions, session

    try:
        runtime = session.open_file(path, RunOptions(providers=("cpu",), optimization="none"))
    except MxError as error:
        raise SourceError(f"{path} is no ONNX model, or a damaged one: {error.message}", error.hint) from error
    except Exception as error:
        raise SourceError(f"{path} is no ONNX model, or a damaged one: {first_line(error)}") from error
    outputs = [value.name for value in runtime.get_outputs()]
    call = session.caller(runtime, outputs)
    return Source(
        inputs=tuple(_spec(value) for value in runtime.get_inputs()),
        outputs=tuple(outputs),
        format="onnx",
        path=path,
        reference=lambda inputs: call(inputs),
    )


def _spec(value: Any) -> TensorSpec:
    dtype = _DTYPES.get(value.type)
    if dtype is None:
        raise SourceError(
            f"input {value.name!r} is a {value.type}, not a tensor of numbers", "cut it off the model"
        )
    shape = tuple(
        size if isinstance(size, int) and size > 0 else Dim(str(size or f"{value.name}_dim{axis}"))
        for axis, size in enumerate(value.shape)
    )
    return TensorSpec(value.name, dtype, shape)
