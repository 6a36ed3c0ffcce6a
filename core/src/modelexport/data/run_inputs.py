"""What `mx run` feeds a model, and what it makes of the outputs: files, values, texts and images."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..contract.artifacts import Artifact
from ..contract.tensors import Dim, TensorSpec, cast, check_count
from ..errors import InputError, OptionError, OutputError, a
from ..jsontext import parse_json, read_json
from ..regular import check_path, check_regular
from ..store.arrays import load_npy, load_npz, save_npz
from ..store.staging import output_errors, refuse_inside
from .numbers import array_of
from .readers import shown

if TYPE_CHECKING:
    from ..contract.tensors import Array, Arrays
    from .texts import Text

#: a text that is one word and ends so is the name of a file
TEXT_FILES = (".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".html", ".xml", ".pdf", ".docx")

#: the most bytes of a .json of inputs; its numbers take several times as much
JSON = 32 << 20


def asked(texts: Sequence[str], contexts: Sequence[str]) -> list[Text]:
    """Each text, with the passage that it is a question about: one passage for all, or one for each.

    Raises InputError where they don't go together, where a passage is empty, and where a file is named.
    """
    for option, values in (("--text", texts), ("--context", contexts)):
        for value in values:
            _check_no_file(option, value)
    if not contexts:
        return list(texts)
    if len(contexts) not in (1, len(texts)):
        raise InputError(
            f"{len(texts)} --text and {len(contexts)} --context do not go together",
            "give one passage for all, or one for each text, in the same order",
        )
    if not all(context.strip() for context in contexts):
        raise InputError("a --context is empty", "give the passage that holds the answer")
    passages = list(contexts) if len(contexts) == len(texts) else [contexts[0]] * len(texts)
    return list(zip(texts, passages, strict=True))


def _check_no_file(option: str, value: str) -> None:
    """Raise InputError for what can only be meant as the name of a file: its letters are no text to work on."""
    name = value.strip()
    is_word = not any(map(str.isspace, name))
    if (is_word and name.lower().endswith(TEXT_FILES)) or (("." in name or "/" in name) and _is_file(name)):
        raise InputError(
            f"{option} {name} names a file, and what it takes is the text itself",
            f'give what the file holds: {option} "$(cat {shlex.quote(name)})"',
        )


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # longer than names may be
        return False


def gather(
    artifact: Artifact,
    inputs: Sequence[str],
    texts: Sequence[Text] = (),
    images: Sequence[Path] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> Arrays:
    """Arrays by input name from every `--input`, `--text` and `--image`; `tell` hears what was left out of them.

    Raises InputError.
    """
    from .images import image_inputs
    from .texts import text_inputs

    if not inputs and not texts and not images:
        wanted = ", ".join(map(str, artifact.inputs))
        raise InputError("there is nothing to run", f"give --input, --text or --image; the inputs: {wanted}")
    arrays: Arrays = {}
    if artifact.processing.get("task") == "question-answering" and any(isinstance(text, str) for text in texts):
        raise InputError("the model finds answers in a passage, and a --text has none", "give it with --context")
    if texts:
        arrays |= text_inputs(artifact, texts, tell=tell)
    if images:
        arrays |= image_inputs(artifact, images)
    specs = {spec.name: spec for spec in artifact.inputs}
    for text in inputs:
        name, separator, value = text.partition("=")
        if not separator:
            arrays |= _from_file(Path(text), specs)
        elif name in specs:
            arrays[name] = _from_value(specs[name], value)
        else:
            raise InputError(
                f"the model has no input {name!r}", f"its inputs: {', '.join(map(str, artifact.inputs))}"
            )
    return arrays


def _from_file(path: Path, specs: Mapping[str, TensorSpec]) -> Arrays:
    if path.suffix == ".npz":
        return load_npz(path)
    if path.suffix != ".json":
        raise InputError(f"can't tell what --input {path} is", "give a .npz, a .json, or NAME=VALUE")
    data = read_json(path, InputError, "it must hold an object: input name → nested lists", JSON)
    if not isinstance(data, dict):
        raise InputError(f"{path} holds {a(type(data).__name__)}, not an object", "write {NAME: nested lists}")
    return {name: _as_array(value, specs[name]) if name in specs else value for name, value in data.items()}


def _from_value(spec: TensorSpec, value: str) -> Array:
    """A `.npy` file, a JSON list that is the whole array, or one number that fills the smallest shape."""
    import numpy as np

    if value.endswith(".npy"):
        return load_npy(Path(value))
    data = parse_json(value, f"the value {shown(value)} of input {spec.name!r}", hint="give a number or a list")
    if isinstance(data, list):
        return _as_array(data, spec)
    shape = tuple(size.min if isinstance(size, Dim) else size for size in spec.shape)
    check_count(f"input {spec.name!r}", math.prod(shape))
    return np.broadcast_to(_as_array(data, spec), shape).copy()


def _as_array(value: object, spec: TensorSpec) -> Array:
    import numpy as np

    try:
        array = array_of(value)
    except ValueError as error:
        raise InputError(f"the value of input {spec.name!r} is no array of numbers: {error}", str(spec)) from error
    with np.errstate(invalid="ignore", over="ignore"):
        converted = cast(array, spec.dtype)
    if converted.dtype.kind in "biu" and not np.array_equal(converted, array):
        raise InputError(f"the value of input {spec.name!r} is not made of whole numbers in range", str(spec))
    return converted


def check_output(path: Path | None) -> None:
    """Raise OptionError for a file of another kind, OutputError for a place that can't be: before the run."""
    if path is None:
        return
    if path.suffix not in (".npz", ".json"):
        raise OptionError(f"can't write {path}", "--output takes a .npz or a .json")
    check_path(path, OutputError)
    if path.exists():
        check_regular(path, kind=OutputError)
    if not path.parent.is_dir():
        raise OutputError(f"can't write {path}: there is no folder {path.parent}", "give another path to --output")
    refuse_inside(path.parent)


def write(outputs: Arrays, path: Path) -> None:
    """Outputs by name into a .npz or .json. Raises OutputError."""
    with output_errors(path, "--output"):
        if path.suffix == ".json":
            path.write_text(
                json.dumps({name: array.tolist() for name, array in outputs.items()}), encoding="utf-8"
            )
        else:
            save_npz(outputs, path)


def preview(array: Array) -> str:
    """The first values, in one line."""
    flat = array.ravel()
    shown = ", ".join(f"{value:.5g}" if array.dtype.kind == "f" else str(value) for value in flat[:6])
    return f"[{shown}{', …' if flat.size > 6 else ''}]"
