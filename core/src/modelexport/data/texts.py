"""Texts into token ids, by the tokenizer that an artifact carries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .. import errors
from ..contract.artifacts import Artifact
from ..contract.tensors import Dim
from ..errors import ArtifactError, InputError, MxError
from ..regular import check_regular
from .sections import check_rows, need, section

if TYPE_CHECKING:
    from ..contract.tensors import Arrays

#: the most characters of a text that a tokenizer gets
LONGEST = 1_000_000

#: the most bytes of a tokenizer's file
TOKENIZER = 256 << 20

#: a text, or a pair of texts: question and context
Text = str | tuple[str, str]


def text_inputs(
    artifact: Artifact,
    texts: Sequence[Text],
    width: int = 0,
    tokenizer: Any = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Arrays:
    """The inputs that `texts` make, one row a text: cut to the longest the model takes, padded to the longest.

    They are padded to `width` tokens at least. `tokenizer` is what `load_tokenizer` gave, for who calls often.
    `tell` is called with a line for each text that was cut.
    Raises InputError when the artifact carries no tokenizer, or does not take as many texts or lengths.
    """
    import numpy as np

    settings = section(artifact, "text", "tokenizer")
    fields: Mapping[str, str] = settings["inputs"]
    specs = {spec.name: spec for spec in artifact.inputs}
    if strangers := [name for name in specs if name not in fields]:
        raise InputError(
            f"input {strangers[0]!r} can't be made from text: the tokenizer gives {', '.join(fields)}",
            "give it as an array with --input",
        )
    if not specs or any(len(spec.shape) != 2 for spec in specs.values()):
        raise InputError("inputs made from text are rows of tokens, and these aren't", "give --input")
    first = next(iter(specs.values()))
    check_rows(first.shape[0], len(texts), "text")
    tokenizer = load_tokenizer(artifact) if tokenizer is None else tokenizer
    encodings = encode(tokenizer, settings, texts, longest(settings, first.shape[-1]))
    for index, encoding in enumerate(encodings):
        if encoding.overflowing:
            tell(f"text {index} was cut: {_cut(encoding, settings)}")
    lengths = [len(encoding.ids) for encoding in encodings]
    width = _padded(max(width, *lengths), first.shape[-1])
    if settings["pad_id"] is None and set(lengths) != {width}:
        raise InputError(
            f"texts of {min(lengths)} to {max(lengths)} tokens would have to be padded to {width}, and this "
            "tokenizer has no padding token",
            "give the texts one at a time",
        )
    fillers = {"ids": settings["pad_id"] or 0, "type_ids": settings.get("pad_type_id", 0), "attention_mask": 0}
    left = settings.get("padding_side") == "left"
    arrays: Arrays = {}
    for name, spec in specs.items():
        kind = fields[name]
        array = np.full((len(texts), width), fillers[kind], dtype=spec.dtype)
        for row, encoding in zip(array, encodings, strict=True):
            values = getattr(encoding, kind)
            try:
                row[width - len(values) if left else 0 : width if left else len(values)] = values
            except (OverflowError, ValueError) as error:
                raise InputError(
                    f"input {name!r} can't hold the tokens: {errors.first_line(error)}", str(spec)
                ) from error
        arrays[name] = array
    return arrays


def _cut(encoding: Any, settings: Mapping[str, Any]) -> str:
    """What the model gets of a text that is longer than what it takes."""
    taken = f"the model takes {len(encoding.ids)} tokens"
    parts = [encoding, *encoding.overflowing]
    if any(1 in part.sequence_ids for part in parts):  # the question stands in every part
        return f"{taken}, and the question and its passage have more"
    total = sum(len(part.ids) - sum(part.special_tokens_mask) for part in parts)
    end = "last" if settings.get("truncation_side") == "left" else "first"
    kept = len(encoding.ids) - sum(encoding.special_tokens_mask)
    return f"{taken}, so the {end} {kept} of its {total} were read"


def longest(settings: Mapping[str, Any], size: int | Dim) -> int | None:
    """The most tokens a text may have: what the tokenizer was trained for, or less where the model takes less."""
    high = size if isinstance(size, int) else size.max
    limits = [limit for limit in (settings.get("max_length"), high) if limit is not None]
    return min(limits) if limits else None


def _padded(length: int, size: int | Dim) -> int:
    """The smallest size the model takes that holds `length` tokens."""
    if isinstance(size, int):
        return size
    return -(-max(length, size.min) // size.multiple) * size.multiple


def encode(tokenizer: Any, settings: Mapping[str, Any], texts: Sequence[Text], longest: int | None) -> list[Any]:
    """The tokens of every text. Raises InputError for one that is too long or no text, or that can't be split."""
    for text in texts:
        _check_text(text)
    if longest is not None:
        tokenizer.enable_truncation(longest, direction=settings.get("truncation_side", "right"))
    if settings.get("lowercase"):
        texts = [text.lower() if isinstance(text, str) else (text[0].lower(), text[1].lower()) for text in texts]
    with _in_rust(InputError, "the tokenizer fails", "give other texts; is the tokenizer damaged?"):
        return list(tokenizer.encode_batch(list(texts)))


def _check_text(text: Text) -> None:
    for part in (text,) if isinstance(text, str) else text:
        if len(part) > LONGEST:
            raise InputError(f"a text has {len(part)} characters, {LONGEST} are read at most", "give a part of it")
        try:
            part.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(f"a text is none: {error.reason} at {error.start}", "give it as UTF-8") from error


@contextmanager
def _in_rust(kind: type[MxError], what: str, hint: str) -> Iterator[None]:
    """Whatever goes wrong inside is a `kind`; what panics in Rust raises no Exception, but a BaseException."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise kind(f"{what}: {errors.first_line(error)}", hint) from error


def load_tokenizer(artifact: Artifact) -> Any:
    """The artifact's tokenizer, with the padding and truncation that its file may ask for switched off.

    Raises InputError when it carries none, ArtifactError when the file can't be read.
    """
    settings = section(artifact, "text", "tokenizer")
    need("tokenizers", "reading text")
    from tokenizers import Tokenizer

    path = artifact.path / settings["tokenizer"]
    check_regular(path, TOKENIZER, ArtifactError)
    hint = "export the model again; a newer `tokenizers` may know its parts"
    with _in_rust(ArtifactError, f"{path} can't be read as a tokenizer", hint):
        tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
