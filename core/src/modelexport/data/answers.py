"""Texts and images in, the model's inputs out; and outputs as lines that a person can read.

Nothing here knows a framework or a target. It follows `Artifact.processing`, plain JSON that a source writes
and every target carries along, so an artifact takes texts and images wherever its runtime runs. All of it is
optional; `contract.processing.Processing` says what it may hold, and docs/reference/manifest.md shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..contract.artifacts import Artifact
from ..errors import first_line
from .texts import Text, encode, load_tokenizer, longest

if TYPE_CHECKING:
    from ..contract.tensors import Array

#: how many classes `readable` lists
TOP = 5


# --------------------------------------------------------------------------------------- what outputs say


def readable(artifact: Artifact, outputs: Mapping[str, Array], texts: Sequence[Text] | None = None) -> list[str]:
    """Lines that say what `outputs` mean, as far as the artifact's task is known; none where it is not.

    The best classes with their probabilities, a label a token, the cosine similarities of embeddings; with
    the `texts` that were given, words in place of token numbers, answers to questions, masks filled in, and the
    next token. Where outputs have not the shapes of what the manifest takes them for, a line says so.
    """
    try:
        return _read(artifact, outputs, texts)
    except (LookupError, ValueError, TypeError) as error:
        cause = f"{type(error).__name__}: {first_line(error)}"
        return [f"the outputs are not what `processing` takes them for: {cause}"]


def _read(artifact: Artifact, outputs: Mapping[str, Array], texts: Sequence[Text] | None) -> list[str]:
    processing = artifact.processing
    if (name := str(processing.get("embedding"))) in outputs:
        return _similarities(outputs[name])
    task, labels = processing.get("task"), processing.get("labels")
    if isinstance(labels, Mapping):
        labels = labels.get("logits")
    if task in ("text-classification", "image-classification") and "logits" in outputs:
        return _classes(outputs["logits"], labels, processing.get("scores", "softmax"))
    encodings = _encodings(artifact, texts)
    if task == "question-answering" and {"start_logits", "end_logits"} <= set(outputs):
        return _answers(outputs["start_logits"], outputs["end_logits"], texts, encodings, _padding(artifact))
    if "logits" not in outputs:
        return []
    logits = outputs["logits"]
    if task == "token-classification":
        return _tokens(logits, labels, encodings, _padding(artifact))
    if task == "fill-mask" and encodings is not None:
        return _fillings(artifact, logits, encodings)
    if task == "text-generation" and encodings is not None:
        return _continuations(artifact, logits, encodings)
    return []


def _encodings(artifact: Artifact, texts: Sequence[Text] | None) -> list[Any] | None:
    settings = artifact.processing.get("text")
    if not texts or not settings or not artifact.inputs or not artifact.inputs[0].shape:
        return None
    return encode(load_tokenizer(artifact), settings, texts, longest(settings, artifact.inputs[0].shape[-1]))


def _padding(artifact: Artifact) -> str:
    return str((artifact.processing.get("text") or {}).get("padding_side", "right"))


def _classes(logits: Array, labels: Sequence[str] | None, scores: str) -> list[str]:
    import numpy as np

    lines = []
    for index, row in enumerate(logits.astype(np.float64)):
        values = {"softmax": _softmax, "sigmoid": _sigmoid}.get(scores, lambda raw: raw)(row)
        best = np.argsort(-values, kind="stable")[:TOP]
        lines.append(f"{index}: " + ", ".join(f"{_label(labels, i)} {values[i]:.4f}" for i in best))
    return lines


def _tokens(logits: Array, labels: Sequence[str] | None, encodings: list[Any] | None, padding: str) -> list[str]:
    import numpy as np

    lines = []
    for index, row in enumerate(logits.astype(np.float64)):
        tokens = None if encodings is None else encodings[index].tokens
        start = _offset(len(row), tokens, padding)
        for position, scores in enumerate(_softmax(row)[start : None if tokens is None else start + len(tokens)]):
            best = int(scores.argmax())
            token = position if tokens is None else tokens[position]
            lines.append(f"{index}: {token} {_label(labels, best)} {scores[best]:.4f}")
    return lines


def _offset(width: int, tokens: Sequence[str] | None, padding: str) -> int:
    return width - len(tokens) if tokens is not None and padding == "left" else 0


def _answers(
    starts: Array,
    ends: Array,
    texts: Sequence[Text] | None,
    encodings: list[Any] | None,
    padding: str,
    longest: int = 30,
) -> list[str]:
    """The best span of at most `longest` tokens within the second text of each pair."""
    import numpy as np

    if texts is None or encodings is None:
        return []
    lines = []
    for index, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
        offset = _offset(starts.shape[1], encoding.tokens, padding)
        inside = [i for i, sequence in enumerate(encoding.sequence_ids) if sequence == 1]
        if isinstance(text, str) or not inside:
            lines.append(f"{index}: no answer, for there is no passage to find it in")
            continue
        context = text[1]
        first, last = inside[0], inside[-1] + 1
        rows = [values[index, offset + first : offset + last].astype(np.float64) for values in (starts, ends)]
        pairs = rows[0][:, None] + rows[1][None, :]
        spans = np.tril(np.triu(np.ones_like(pairs)), longest - 1) > 0
        begin, end = np.unravel_index(np.where(spans, pairs, -np.inf).argmax(), pairs.shape)
        low, high = encoding.offsets[first + begin][0], encoding.offsets[first + end][1]
        lines.append(f"{index}: {context[low:high]} (score {pairs[begin, end]:.4f})")
    return lines


def _fillings(artifact: Artifact, logits: Array, encodings: list[Any]) -> list[str]:
    import numpy as np

    settings = artifact.processing["text"]
    mask, tokenizer = settings.get("mask_token"), load_tokenizer(artifact)
    lines = []
    for index, (row, encoding) in enumerate(zip(logits.astype(np.float64), encodings, strict=True)):
        offset = _offset(len(row), encoding.tokens, _padding(artifact))
        for position in (i for i, token in enumerate(encoding.tokens) if token == mask):
            values = _softmax(row[offset + position])
            best = np.argsort(-values, kind="stable")[:TOP]
            words = ", ".join(f"{tokenizer.decode([int(i)]).strip()} {values[i]:.4f}" for i in best)
            lines.append(f"{index}: {mask} {words}")
    return lines


def _continuations(artifact: Artifact, logits: Array, encodings: list[Any]) -> list[str]:
    """The likeliest next tokens of each text."""
    import numpy as np

    tokenizer, padding = load_tokenizer(artifact), _padding(artifact)
    lines = []
    for index, (row, encoding) in enumerate(zip(logits, encodings, strict=True)):
        last = _offset(len(row), encoding.tokens, padding) + len(encoding.tokens) - 1
        values = _softmax(row[last].astype(np.float64))
        best = np.argsort(-values, kind="stable")[:TOP]
        words = ", ".join(f"{tokenizer.decode([int(i)], False)!r} {values[i]:.4f}" for i in best)
        lines.append(f"{index}: next {words}")
    return lines


def _similarities(embeddings: Array) -> list[str]:
    """The cosine similarity of every two rows, as a matrix; a single row is similar to nothing."""
    import numpy as np

    if len(embeddings) < 2:
        return []
    rows = embeddings.astype(np.float64)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    head = "cosine " + " ".join(f"{index:>7}" for index in range(len(rows)))
    return [head] + [
        f"{index:>6} " + " ".join(f"{value:7.4f}" for value in row) for index, row in enumerate(rows @ rows.T)
    ]


def _softmax(logits: Array) -> Array:
    import numpy as np

    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True))


def _sigmoid(logits: Array) -> Array:
    import numpy as np

    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))


def _label(labels: Sequence[str] | None, index: int) -> str:
    return labels[index] if labels is not None and index < len(labels) else f"class {index}"
