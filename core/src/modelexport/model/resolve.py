"""Resolve a model reference into a Source: what `SOURCE` on the command line may be.

Core knows `file.py:factory`, `package.module:factory`, `model.pt2`, and artifacts on disk; everything else
is offered to the source plugins. `describe` then finds the inputs' specs, and the example's values.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..contract.sources import LoadOptions, Source
from ..contract.target import CAPTURED, MODULE
from ..errors import OptionError, SourceError, a
from ..plugins import entries, known, manager
from ..plugins.installed import importable
from ..store import manifest
from ..usercode import check_reference, guarded, import_object, names_object
from . import pt2, reference, weights

#: NAME or OWNER/NAME, as hubs call models
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)

#: the most bytes of an artifact's name; what is made of it and while it is made has suffixes, 255 in all
LONGEST_NAME = 128


def resolve(ref: Any, options: LoadOptions) -> Source:
    """The Source that `ref` names: a string, a path, an `nn.Module`, or a Source already.

    Raises SourceError (or a subclass of MxError from a plugin) saying what was tried and what to try.
    """
    if options.weights is not None:
        weights.check(options.weights)
    check_task(ref, options.task)
    if not isinstance(ref, (str, os.PathLike)):
        return _finish(_from_value(ref, "the object given"), type(ref).__name__, "model", options)
    text = os.fspath(ref)
    check_reference(text)
    attribute = text.rpartition(":")[2]
    if names_object(text):
        return _finish(_from_factory(import_object(text), attribute), text, attribute, options)
    path = Path(text)
    if path.suffix == ".pt2":
        return _finish(_load_program(path, options.allow_pickle), text, path.stem, options)
    if manifest.is_in(path):
        if options.weights is not None:
            raise _own_weights(text)
        return _from_artifact(path, options.allow_pickle)
    source = manager.load_source(text, options)
    if source is None:
        raise _unknown(path, text, options)
    if options.task is not None and "task" not in source.processing:
        raise _no_task(text, options.task)
    return _finish(source, text, path.name.removesuffix(path.suffix) or "model", options)


def check_task(ref: Any, task: str | None) -> None:
    """Raise OptionError for a task of what has none, as far as that can be told without loading it."""
    text = os.fspath(ref) if isinstance(ref, (str, os.PathLike)) else ""
    if task is not None and (not text or names_object(text) or likely_format(ref) or manifest.is_in(Path(text))):
        raise _no_task(text or "the object given", task)


def _no_task(what: str, task: str) -> OptionError:
    return OptionError(f"--task {task} is of no use: {what} is what it is", "leave it out")


def _own_weights(ref: str) -> SourceError:
    return SourceError(f"--weights does not go with {ref}, which has its own", "leave it out, or give a factory")


def likely_format(ref: Any) -> str | None:
    """The format of the source that `ref` names, as far as it can be told without loading it; else None."""
    if isinstance(ref, Source):
        return ref.format
    if not isinstance(ref, (str, os.PathLike)):
        return CAPTURED if type(ref).__name__ == "ExportedProgram" else MODULE
    return CAPTURED if Path(os.fspath(ref)).suffix == ".pt2" else None


def _finish(source: Source, ref: str, name: str, options: LoadOptions) -> Source:
    """Fill in what the loader left open, and lay `--weights` and `--input` over it."""
    if options.weights is not None:
        if source.format != MODULE:
            raise _own_weights(ref)
        weights.load_into(source.module, options.weights, options.allow_pickle)
    return replace(
        source,
        ref=source.ref or ref,
        name=_safe_name(source.name or name),
        inputs=options.inputs or source.inputs,
    )


def _safe_name(name: str) -> str:
    plain = re.sub(r"[^\w.+-]+", "-", name).strip(".-")
    return plain.encode()[:LONGEST_NAME].decode(errors="ignore") or "model"


def _unknown(path: Path, text: str, options: LoadOptions) -> SourceError:
    forms = (
        "file.py:factory, package.module:factory, model.pt2, an artifact's folder, or what a source plugin loads"
    )
    absent = [line for name, (_, line) in known.SOURCES.items() if name not in entries.find(entries.SOURCES)]
    if not path.exists():
        extra = f"; for Hugging Face ids and other formats: {'; '.join(absent)}" if absent else ""
        if _HUB_ID.fullmatch(text) and not options.allow_download:
            extra += "; if that is a model's id on a hub: --allow-download"
        return SourceError(f"no model at {text!r}: there is no such path", f"give {forms}{extra}")
    if path.suffix == ".py":
        return SourceError(f"{text} names no factory", f"write {text}:FUNCTION, a function that returns the model")
    if weights.is_pickled_model(path):
        return SourceError(
            f"{text} is a whole model that was pickled, which runs whatever code it holds when it is loaded",
            f"if you trust its author, give `file.py:factory` with a function that returns "
            f"torch.load({path.name!r}, weights_only=False)",
        )
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
    installed = entries.find(entries.SOURCES)
    return next(
        (
            line
            for name, (what, line) in known.SOURCES.items()
            if name not in installed and suffix and suffix in what
        ),
        None,
    )


def _from_factory(value: Any, attribute: str) -> Source:
    if callable(value) and not _is_module(value):
        value = guarded(value, f"calling {attribute}()")
    return _from_value(value, f"{attribute}()")


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
    return a(type(value).__name__) if value is not None else "None"


# --------------------------------------------------------------------------------------- captured, artifacts


def _load_program(path: Path, allow_pickle: bool = False) -> Source:
    if not path.is_file():
        raise SourceError(f"no file {path}", "give the path of a torch.export program")
    _need_torch()
    return _captured_source(pt2.load_program(path, allow_pickle))


def _captured_source(program: Any) -> Source:
    return Source(program, format=CAPTURED, inputs=reference.program_specs(program))


def _from_artifact(path: Path, allow_pickle: bool) -> Source:
    """An artifact as a source: its own golden data stands for the model it was made from."""
    artifact = manifest.read(path)
    program = _load_program(artifact.entry_path, allow_pickle).module if artifact.format == CAPTURED else None
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
    if not importable("torch"):
        raise SourceError("loading a PyTorch model needs torch", known.MODULES["torch"])
