"""An existing .onnx file as a source: its inputs and dims are read from it, and it is its own reference.

The reference runs without graph optimization, so that the gate on the artifact (which runs with it) checks
at least the runtime's own rewriting.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelexport.contract import Dim, LoadOptions, Source, TensorSpec
from modelexport.errors import SourceError
from modelexport.toolkit import check_readable, declared, reading, size_in_file

from . import RunOptions, files, session

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(bool)": "bool",
} | {f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


def load(path: Path, options: LoadOptions) -> Source:
    """The file as a source, its inputs as they are declared or else as it has them.

    Raises SourceError when the file is missing or damaged, takes something other than tensors, or can't take what
    is declared.
    """
    check_readable(path, "a .onnx file", ("onnxruntime", "onnx"), "pip install onnx onnxruntime")
    with reading(path, "ONNX model"):
        files.load_graph(path)  # which tells a damaged file from an operator that ONNX Runtime lacks
        runtime = session.open_file(path, RunOptions(providers=("cpu",), optimization="none"))
        own = [_spec(value) for value in runtime.get_inputs()]
    outputs = [value.name for value in runtime.get_outputs()]
    call = session.caller(runtime, outputs)
    return Source(
        inputs=_inputs(path, own, options),
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
    shape = tuple(size_in_file(size, value.name, axis) for axis, size in enumerate(value.shape))
    return TensorSpec(value.name, dtype, shape)


def _inputs(path: Path, own: Sequence[TensorSpec], options: LoadOptions) -> tuple[TensorSpec, ...]:
    """The inputs as declared: under the file's names, in any order, and of its sizes where it fixes them."""
    places = {TensorSpec.parse(text).name: place for place, text in enumerate(options.inputs)}
    if set(places) == {spec.name for spec in own}:
        own = sorted(own, key=lambda spec: places[spec.name])
    specs = declared(path, own, options)
    for spec, before in zip(specs, own, strict=True):
        if spec.name != before.name or not all(map(_takes, before.shape, spec.shape)):
            raise SourceError(
                f"{path} can't take the input {spec}", f"its inputs are {', '.join(map(str, own))}: declare these"
            )
    return specs


def _takes(own: int | Dim, size: int | Dim) -> bool:
    """Whether a dim of the file can be declared so: a size that it fixes can't be another."""
    return isinstance(own, Dim) or own == size
