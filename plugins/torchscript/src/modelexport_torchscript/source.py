"""An existing TorchScript archive as a source, whoever made it: it is its own reference.

An archive does not say which shapes it takes, so its inputs must be declared.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import LoadOptions, Source, TensorSpec, unify_dims
from modelexport.errors import InputError, ReferenceError, SourceError
from modelexport.toolkit import check_readable, name_outputs, reading, to_numpy, to_torch

from . import INSTALL, files, operators, schema

if TYPE_CHECKING:
    from modelexport.contract import Arrays

KIND = "TorchScript archive"


def load(ref: str, options: LoadOptions) -> Source | None:
    """The archive at `ref` as a source, or None where there is no TorchScript.

    Raises SourceError for a damaged archive, InputError where its inputs are not declared, UnsafeFileError for one
    that could touch files or processes, unless `options.allow_file_access`.
    """
    path = Path(ref)
    if not path.is_file() or not files.is_archive(path):
        return None
    check_readable(path, f"a {KIND}", ("torch",), INSTALL)
    with reading(path, KIND):
        module = files.load(path, trusted=options.allow_file_access)
        if not hasattr(module, "forward"):
            raise SourceError(f"{path} has no forward method", "save a module that has one")
    if not options.inputs:
        declarations = [_declaration(argument) for argument in module.forward.schema.arguments[1:]]
        raise InputError(
            f"{path} does not say which shapes it takes: {schema.signature(module)}",
            f"declare them: {' '.join(declarations)}",
        )
    specs = unify_dims([TensorSpec.parse(text) for text in options.inputs])
    schema.takes_names(module, [spec.name for spec in specs])
    kept = Kept(path, specs, options.allow_file_access)
    return Source(inputs=specs, format="torchscript", path=path, reference=kept, state=kept)


def _declaration(argument: Any) -> str:
    """What to give `--input` for an argument of forward."""
    dtypes = {"int": "int64", "float": "float64", "bool": "bool"}
    kind = str(argument.type)
    shape = f"{dtypes[kind]}[]=0..1" if kind in dtypes else "float32[batch=1..32,…]"
    return f"--input '{argument.name}:{shape}'"


class Kept:
    """The archive as a reference: outputs from inputs, and the state that its calls leave in its attributes."""

    def __init__(self, path: Path, specs: tuple[TensorSpec, ...], trusted: bool = False) -> None:
        self._path, self._specs, self._trusted = path, specs, trusted
        self.restore()
        self._saved = self._fingerprint()

    def __call__(self, inputs: Arrays) -> Arrays:
        """Every output by name. Raises ReferenceError where the model fails."""
        import torch

        names = [spec.name for spec in self._specs]
        tensors = {name: to_torch(inputs[name]) for name in names}
        by_name = schema.takes_names(self._module, names)
        try:
            with torch.inference_mode():
                returned = self._module(**tensors) if by_name else self._module(*tensors.values())
        except Exception as error:
            message = operators.failed(error).message
            raise ReferenceError(message, "declare the sizes and values it takes") from error
        named = name_outputs(returned, (), names)
        return {name: to_numpy(value, f"output {name!r}").copy() for name, value in named.items()}

    def restore(self) -> None:
        self._module = files.load(self._path, trusted=self._trusted).eval()

    def changed(self) -> bool:
        return self._fingerprint() != self._saved

    def _fingerprint(self) -> bytes:
        """Of everything the module holds, attributes that are no buffers included: saving it is what sees them."""
        return hashlib.sha256(self._module.save_to_buffer()).digest()
