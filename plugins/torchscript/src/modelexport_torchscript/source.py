"""An existing TorchScript archive as a source, whoever made it: it is its own reference.

An archive is code and tensors; torch.jit.load runs none of it through Python's pickle. It does not say which
shapes it takes, so its inputs must be declared.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import LoadOptions, Source, TensorSpec, unify_dims
from modelexport.errors import InputError, MxError, ReferenceError, SourceError
from modelexport.toolkit import importable, name_outputs, to_numpy, to_torch

if TYPE_CHECKING:
    from modelexport.contract import Arrays

#: suffixes that only TorchScript uses; .pt holds weights as often
OWN = (".ts", ".jit", ".torchscript")


def load(ref: str, options: LoadOptions) -> Source | None:
    """The archive at `ref` as a source, or None where there is no TorchScript.

    Raises SourceError for a damaged archive, InputError where its inputs are not declared.
    """
    path = Path(ref)
    if not path.is_file() or not _is_archive(path):
        return None
    if not importable("torch"):
        raise SourceError(f"reading {path} needs torch", "pip install 'modelexport-torchscript[export]'")
    from . import session

    try:
        module = session.load_file(path)
        schema = module.forward.schema
    except MxError as error:
        raise SourceError(f"{path} is a damaged TorchScript archive: {error.message}", error.hint) from error
    except AttributeError as error:
        raise SourceError(f"{path} has no forward method", "save a module that has one") from error
    if not options.inputs:
        declarations = [_declaration(argument) for argument in schema.arguments[1:]]
        raise InputError(
            f"{path} does not say which shapes it takes: {session.signature(module)}",
            f"declare them: {' '.join(declarations)}",
        )
    specs = unify_dims([TensorSpec.parse(text) for text in options.inputs])
    session.takes_names(module, [spec.name for spec in specs])
    kept = Kept(path, specs)
    return Source(inputs=specs, format="torchscript", path=path, reference=kept, state=kept)


def _is_archive(path: Path) -> bool:
    """Whether the file is a zip with `code/` and `constants.pkl`. Raises SourceError where its name says it is."""
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"PK"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inner = {name.partition("/")[2] for name in archive.namelist()}
        if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
            return True
        zipped = False
    if path.suffix in OWN or (zipped and path.suffix == ".pt"):
        raise SourceError(
            f"{path} is no TorchScript archive, or a damaged one", "write it with torch.jit.save, or copy it again"
        )
    return False


def _declaration(argument: Any) -> str:
    """What to give `--input` for an argument of forward."""
    dtypes = {"int": "int64", "float": "float64", "bool": "bool"}
    kind = str(argument.type)
    return f"--input '{argument.name}:{f'{dtypes[kind]}[]=0..1' if kind in dtypes else 'float32[batch=1..32,…]'}'"


class Kept:
    """The archive as a reference: outputs from inputs, and the state that its calls leave in its attributes."""

    def __init__(self, path: Path, specs: tuple[TensorSpec, ...]) -> None:
        self._path, self._specs = path, specs
        self.restore()
        self._saved = self._fingerprint()

    def __call__(self, inputs: Arrays) -> Arrays:
        import torch

        from . import session

        tensors = {name: to_torch(array) for name, array in inputs.items()}
        names = [spec.name for spec in self._specs]
        try:
            with torch.inference_mode():
                if session.takes_names(self._module, names):
                    found = self._module(**tensors)
                else:
                    found = self._module(*(tensors[name] for name in names))
        except Exception as error:
            raise ReferenceError(
                session.failure(error).message, "declare the sizes and values it takes"
            ) from error
        named = name_outputs(found, (), names)
        return {name: to_numpy(value, f"output {name!r}").copy() for name, value in named.items()}

    def restore(self) -> None:
        from . import session

        self._module = session.load_file(self._path).eval()

    def changed(self) -> bool:
        return self._fingerprint() != self._saved

    def _fingerprint(self) -> bytes:
        """Of everything the module holds, attributes that are no buffers included: saving it is what sees them."""
        return hashlib.sha256(self._module.save_to_buffer()).digest()
