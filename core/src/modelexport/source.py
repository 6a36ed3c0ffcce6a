"""Resolve a model reference into a Source: what `SOURCE` on the command line may be.

Core knows `file.py:factory`, `package.module:factory`, `model.pt2`, and artifacts on disk; everything else
is offered to the source plugins. `describe` then finds the inputs' specs, and the example's values.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import known, manifest, pickles, plugins, torchref, weights
from .errors import CaptureError, InputError, MxError, SourceError
from .plan import CAPTURED, MODULE
from .types import Dim, LoadOptions, Source, TensorSpec, unify_dims

if TYPE_CHECKING:
    from .types import Array, Arrays

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def resolve(ref: Any, options: LoadOptions) -> Source:
    """The Source that `ref` names: a string, a path, an `nn.Module`, or a Source already.

    Raises SourceError (or a subclass of MxError from a plugin) saying what was tried and what to try.
    """
    if not isinstance(ref, (str, os.PathLike)):
        return _finish(_from_value(ref, "the object given"), type(ref).__name__, "model", options)
    text = os.fspath(ref)
    attribute = text.rpartition(":")[2]
    if names_object(text):
        return _finish(_from_factory(import_object(text), attribute), text, attribute, options)
    path = Path(text)
    if path.suffix == ".pt2":
        return _finish(_load_program(path, options.allow_pickle), text, path.stem, options)
    if manifest.is_in(path):
        return _from_artifact(path)
    found = plugins.load_source(text, options)
    if found is None:
        raise _unknown(path, text)
    return _finish(found, text, path.name.removesuffix(path.suffix) or "model", options)


def _finish(source: Source, ref: str, name: str, options: LoadOptions) -> Source:
    """Fill in what the loader left open, and lay `--weights` and `--input` over it."""
    if options.weights is not None:
        if source.format != MODULE:
            raise SourceError(
                f"--weights does not go with {ref}, which has its own", "leave it out, or give a factory"
            )
        weights.load_into(source.module, options.weights, options.allow_pickle)
    return replace(
        source,
        ref=source.ref or ref,
        name=_safe_name(source.name or name),
        inputs=options.inputs or source.inputs,
    )


def _safe_name(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", name).strip(".-") or "model"


def _unknown(path: Path, text: str) -> SourceError:
    forms = (
        "file.py:factory, package.module:factory, model.pt2, an artifact's folder, or what a source plugin loads"
    )
    absent = [line for name, (_, line) in known.SOURCES.items() if name not in plugins.find(plugins.SOURCES)]
    if not path.exists():
        extra = f"; for Hugging Face ids and other formats: {'; '.join(absent)}" if absent else ""
        return SourceError(f"no model at {text!r}: there is no such path", f"give {forms}{extra}")
    if path.suffix == ".py":
        return SourceError(f"{text} names no factory", f"write {text}:FUNCTION, a function that returns the model")
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".pkl"):
        whole = f"; or, for a whole model, {line}" if (line := _plugin_for(path.suffix)) else ""
        return SourceError(
            f"{text} holds weights, not a model", f"give the code too: `file.py:factory --weights {text}`{whole}"
        )
    if not path.is_dir() and (line := _plugin_for(path.suffix)):
        return SourceError(f"nothing installed loads {text}", line)
    extra = f" or install a plugin: {'; '.join(absent)}" if absent else ""
    return SourceError(f"no installed plugin knows what {text} is", f"give {forms}{extra}")


def _plugin_for(suffix: str) -> str | None:
    """The install line of a known source that is absent and loads files of this suffix."""
    installed = plugins.find(plugins.SOURCES)
    return next(
        (
            line
            for name, (what, line) in known.SOURCES.items()
            if name not in installed and suffix and suffix in what
        ),
        None,
    )


# --------------------------------------------------------------------------------------- factories


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise SourceError(f"no file {path}", "give the path of a Python file, then a colon and a function")
    name = f"mx_source_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:  # so that the file's neighbours can be imported, as with `python file.py`
        sys.path.insert(0, folder)
    return _guarded(lambda: spec.loader.exec_module(module) or module, f"importing {path}")  # type: ignore[union-attr]


def import_user_module(name: str) -> Any:
    """Import one of the user's modules by its dotted name; the current folder counts, as with `python -m`.

    Raises SourceError.
    """
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return _import_module(name)


def _import_module(name: str) -> Any:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError) as error:
        raise SourceError(f"no module {name!r}: {error}", "check the spelling and the environment") from error
    if found is None:
        raise SourceError(f"no module {name!r}", "check the spelling; the current folder is searched too")
    return _guarded(lambda: importlib.import_module(name), f"importing {name}")


def names_object(ref: str) -> bool:
    """Whether `ref` reads `file.py:name` or `package.module:name`."""
    location, separator, _ = ref.rpartition(":")
    return bool(separator) and (location.endswith(".py") or _DOTTED.fullmatch(location) is not None)


def import_object(ref: str) -> Any:
    """What `file.py:name` or `package.module:name` names in the user's code. Raises SourceError."""
    location, _, attribute = ref.rpartition(":")
    module = _import_file(Path(location)) if location.endswith(".py") else _import_module(location)
    if not hasattr(module, attribute):
        import difflib

        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        close = difflib.get_close_matches(attribute, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(sorted(names)) or 'no functions'}"
        raise SourceError(f"{ref}: there is no {attribute!r} in it", hint)
    return getattr(module, attribute)


def _from_factory(value: Any, attribute: str) -> Source:
    if callable(value) and not _is_module(value):
        value = _guarded(value, f"calling {attribute}()")
    return _from_value(value, f"{attribute}()")


def _guarded(call: Callable[[], Any], doing: str) -> Any:
    """Run the user's code; what it raises becomes a SourceError with the line of the user's that raised."""
    try:
        return call()
    except MxError:
        raise
    except (Exception, SystemExit) as error:
        where = user_frame(error)
        at = f" at {where}" if where else ""
        raise SourceError(
            f"{doing} raised {type(error).__name__}{at}: {plugins.first_line(error)}",
            "the code itself failed; --debug shows the whole trace",
        ) from error


def user_frame(error: BaseException) -> str:
    """`file:line (code)` of the innermost frame outside installed packages, or an empty string."""
    ours = str(Path(__file__).parent)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        packaged = re.search(r"site-packages|dist-packages|[\\/]modelexport_\w+[\\/]", frame.filename)
        if packaged or frame.filename.startswith((ours, "<", sys.base_prefix + os.sep + "lib")):
            continue
        return f"{frame.filename}:{frame.lineno} ({(frame.line or '').strip()})"
    return ""


def _is_module(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _from_value(value: Any, what: str) -> Source:
    if isinstance(value, Source):
        return value
    if _is_module(value):
        return Source(value)
    if type(value).__name__ == "ExportedProgram":
        return _captured_source(value)
    if isinstance(value, tuple) and len(value) == 2 and _is_module(value[0]):
        module, example = value
        if isinstance(example, Mapping):
            return Source(module, example=dict(example))
        return Source(module, example=tuple(example) if isinstance(example, (tuple, list)) else (example,))
    raise SourceError(
        f"{what} gives {_kind(value)}, not a model",
        "return an nn.Module, (module, example_inputs), or a modelexport.Source",
    )


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}" if value is not None else "None"


# --------------------------------------------------------------------------------------- captured, artifacts


def _load_program(path: Path, allow_pickle: bool = False) -> Source:
    if not path.is_file():
        raise SourceError(f"no file {path}", "give the path of a torch.export program")
    _need_torch()
    import torch

    if not allow_pickle:
        pickles.check_program(path)
    try:
        program = torch.export.load(path)
    except Exception as error:
        raise SourceError(
            f"{path} is no torch.export program, or a damaged one: {plugins.first_line(error)}",
            "save it with torch.export.save, or give the model's code",
        ) from error
    return _captured_source(program)


def _captured_source(program: Any) -> Source:
    return Source(program, format=CAPTURED, inputs=torchref.program_specs(program))


def _from_artifact(path: Path) -> Source:
    """An artifact as a source: its own golden data stands for the model it was made from."""
    artifact = manifest.read(path)
    program = _load_program(artifact.entry_path).module if artifact.format == CAPTURED else None
    return Source(
        program,
        inputs=artifact.inputs,
        outputs=tuple(spec.name for spec in artifact.outputs),
        processing=artifact.processing,
        files={entry.path: path / entry.path for entry in artifact.files if entry.path.startswith("processing/")},
        format=artifact.format,
        path=path,
        ref=str(path),
        name=path.name.removesuffix(f".{artifact.format}"),
        golden=artifact.golden,
        lineage=artifact.lineage,
    )


def _need_torch() -> None:
    if not plugins.importable("torch"):
        raise SourceError("loading a PyTorch model needs torch", known.MODULES["torch"])


# --------------------------------------------------------------------------------------- inputs


@dataclass(frozen=True)
class Described:
    """A source whose inputs are known: `example` holds the example's arrays by input name, if there is one."""

    source: Source
    specs: tuple[TensorSpec, ...]
    example: Arrays | None = None


def describe(source: Source) -> Described:
    """Find the inputs' specs: as declared, else from the example. Raises InputError when there is neither."""
    example = torchref.example_arrays(source) if source.example is not None else None
    if source.inputs:
        specs = source.specs
        if example is not None and set(example) != {spec.name for spec in specs}:
            example = _rename(example, specs)
        return Described(source, specs, example)
    if example is None:
        raise InputError(
            "the model's inputs are unknown",
            f'declare them: --input "{_first_parameter(source)}:float32[batch,3,224,224]", or let the factory '
            "return (module, example_inputs)",
        )
    specs = tuple(TensorSpec(name, a.dtype.name, tuple(a.shape)) for name, a in example.items())
    return Described(source, unify_dims(specs), example)


def _rename(example: Arrays, specs: Sequence[TensorSpec]) -> Arrays:
    """Declared names go over the example's by position, when there are as many."""
    if len(example) != len(specs):
        raise InputError(
            f"{len(specs)} inputs are declared, the example has {len(example)}: {', '.join(example)}",
            "declare every input, in the order the model takes them",
        )
    by_name = {spec.name: example[spec.name] for spec in specs if spec.name in example}
    rest: list[Array] = [array for name, array in example.items() if name not in by_name]
    return {spec.name: by_name[spec.name] if spec.name in by_name else rest.pop(0) for spec in specs}


def _first_parameter(source: Source) -> str:
    names = torchref.parameters(source.module) if source.format == MODULE else []
    return names[0] if names else "x"


def fixed(specs: Sequence[TensorSpec]) -> bool:
    return not any(isinstance(size, Dim) for spec in specs for size in spec.shape)


__all__ = [
    "CaptureError",
    "Described",
    "describe",
    "fixed",
    "import_object",
    "import_user_module",
    "names_object",
    "resolve",
    "user_frame",
]
