"""An existing .pte file as a source, whoever made it: it is its own reference.

A program knows its inputs by position, dtype and largest sizes: which dims are dynamic, and what the inputs are
called, can be declared with --input.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from modelexport.contract import Build, LoadOptions, Source, TensorSpec, unify_dims
from modelexport.errors import MxError, SourceError
from modelexport.toolkit import importable

from .export import FILE

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
    if not path.is_file():
        raise SourceError(f"no file {path}", "give the path of a .pte file")
    for module in ("torch", "executorch"):
        if not importable(module):
            raise SourceError(f"reading {path} needs {module}", "pip install 'modelexport-executorch[run]'")
    from . import session

    session.kernels(["quantized_decomposed::"])  # a program does not say which it needs before it is loaded
    try:
        method = session.load(path)
        found = method.method_meta()
        specs = tuple(_spec(found.input_tensor_meta(index), index) for index in range(found.num_inputs()))
    except MxError as error:
        raise SourceError(f"{path}: {error.message}", error.hint) from error
    except Exception as error:
        raise SourceError(f"{path} takes something other than tensors: {error}", "wrap the model") from error
    if options.inputs:
        specs = _declared(path, specs, options)
    outputs = tuple(f"output_{index}" for index in range(found.num_outputs()))
    call = session.caller(method, [spec.name for spec in specs], outputs)
    return Source(
        inputs=specs, outputs=outputs, format="executorch", path=path, reference=lambda inputs: call(inputs)
    )


def _spec(info: Any, index: int) -> TensorSpec:
    return TensorSpec(f"input_{index}", _DTYPES[int(info.dtype())], tuple(info.sizes()))


def _declared(path: Path, specs: tuple[TensorSpec, ...], options: LoadOptions) -> tuple[TensorSpec, ...]:
    declared = unify_dims([TensorSpec.parse(text) for text in options.inputs])
    if [(s.dtype, len(s.shape)) for s in declared] != [(s.dtype, len(s.shape)) for s in specs]:
        raise SourceError(f"{path} takes other inputs than declared", f"it takes {', '.join(map(str, specs))}")
    return declared


def copy_file(source: Source, out: Path) -> Build:
    """Carry an existing program into `out` as it is."""
    from executorch.codegen.tools.selective_build import _get_program_from_buffer, _get_program_operators

    assert source.path is not None
    shutil.copyfile(source.path, out / FILE)
    operators = _get_program_operators(_get_program_from_buffer((out / FILE).read_bytes()))
    return Build(FILE, ("executorch",), details={"kernels": sorted(operators)})
