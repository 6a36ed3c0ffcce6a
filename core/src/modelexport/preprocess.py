"""Texts and images in, the model's inputs out; and outputs as lines that a person can read.

Nothing here knows a framework or a target. It follows `Artifact.processing`, plain JSON that a source writes
and every target carries along, so an artifact takes texts and images wherever its runtime runs. All of it is
optional:

    {
      "task": "text-classification",
      "text": {
        "tokenizer": "processing/tokenizer.json",      a file of the artifact, for the `tokenizers` package
        "max_length": 256,                             longer texts are cut; null: whatever the model takes
        "pad_id": 0, "pad_token": "[PAD]",             null: texts of different lengths are refused
        "pad_type_id": 0, "padding_side": "right", "truncation_side": "right",
        "mask_token": "[MASK]", "lowercase": false,
        "inputs": {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
      },
      "image": {
        "input": "pixel_values",
        "size": [224, 224],                            or {"shortest_edge": 256}, or null: no resize
        "crop": [224, 224],                            centre crop, padded with zeros; null: none
        "resample": "bicubic",                         a Pillow filter
        "rescale": 0.00392156862745098,                null: pixels stay 0 to 255
        "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],   null: not normalised
        "color": "RGB",                                or "BGR", or "L" for one channel
        "layout": "NCHW"                               or "NHWC"
      },
      "labels": {"logits": ["negative", "positive"]},  names along the last axis of an output
      "scores": "softmax",                             or "sigmoid" (several labels at once), "none" (regression)
      "embedding": "sentence_embedding",               the output that holds one vector a text
      "left_out": {"image": "why there is no image section"}
    }

`text.inputs` says which field of an encoding each input holds: `ids`, `attention_mask` or `type_ids`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import cases, known, plugins
from .errors import ArtifactError, InputError
from .types import Artifact, Dim

if TYPE_CHECKING:
    from .types import Array, Arrays

#: a text, or a pair of texts: question and context
Text = str | tuple[str, str]

#: how many classes `readable` lists
TOP = 5


# --------------------------------------------------------------------------------------- texts


def text_inputs(artifact: Artifact, texts: Sequence[Text], width: int = 0, tokenizer: Any = None) -> Arrays:
    """The inputs that `texts` make, one row a text: cut to the longest the model takes, padded to the longest.

    They are padded to `width` tokens at least. `tokenizer` is what `load_tokenizer` gave, for who calls often.
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
    first = next(iter(specs.values()))
    _check_rows(first.shape[0], len(texts), "text")
    tokenizer = load_tokenizer(artifact) if tokenizer is None else tokenizer
    encodings = _encode(tokenizer, settings, texts, _longest(settings, first.shape[-1]))
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
            row[width - len(values) if left else 0 : width if left else len(values)] = values
        arrays[name] = array
    return arrays


def _longest(settings: Mapping[str, Any], size: int | Dim) -> int | None:
    """The most tokens a text may have: what the tokenizer was trained for, or less where the model takes less."""
    high = size if isinstance(size, int) else size.max
    limits = [limit for limit in (settings.get("max_length"), high) if limit is not None]
    return min(limits) if limits else None


def _padded(length: int, size: int | Dim) -> int:
    """The smallest size the model takes that holds `length` tokens."""
    if isinstance(size, int):
        return size
    return -(-max(length, size.min) // size.multiple) * size.multiple


def _encode(tokenizer: Any, settings: Mapping[str, Any], texts: Sequence[Text], longest: int | None) -> list[Any]:
    if longest is not None:
        tokenizer.enable_truncation(longest, direction=settings.get("truncation_side", "right"))
    if settings.get("lowercase"):
        texts = [text.lower() if isinstance(text, str) else (text[0].lower(), text[1].lower()) for text in texts]
    return list(tokenizer.encode_batch(list(texts)))


def load_tokenizer(artifact: Artifact) -> Any:
    """The artifact's tokenizer, with the padding and truncation that its file may ask for switched off.

    Raises InputError when it carries none, ArtifactError when the file can't be read.
    """
    settings = section(artifact, "text", "tokenizer")
    _need("tokenizers", "reading text")
    from tokenizers import Tokenizer

    path = artifact.path / settings["tokenizer"]
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise ArtifactError(
            f"{path} can't be read as a tokenizer: {plugins.first_line(error)}",
            "export the model again; a newer `tokenizers` may know its parts",
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


# --------------------------------------------------------------------------------------- images


def image_inputs(artifact: Artifact, images: Sequence[Path | Any]) -> Arrays:
    """The input that `images` make, one row an image: paths, or Pillow images.

    Raises InputError when the artifact doesn't say how, or an image is missing or damaged.
    """
    import numpy as np

    settings = section(artifact, "image", "image preprocessing")
    spec = next((spec for spec in artifact.inputs if spec.name == settings["input"]), None)
    if spec is None or len(artifact.inputs) != 1:
        raise InputError(
            f"inputs {', '.join(s.name for s in artifact.inputs)} can't be made from images alone",
            "give them as arrays with --input",
        )
    _check_rows(spec.shape[0], len(images), "image")
    rows = [pixels(_open(image) if isinstance(image, Path) else image, settings) for image in images]
    if len(shapes := {row.shape for row in rows}) > 1:
        raise InputError(f"the images make rows of different shapes: {sorted(shapes)}", "give images of one size")
    return {spec.name: cases.cast(np.stack(rows), spec.dtype)}


def _open(path: Path) -> Any:
    """A Pillow image, decoded, and turned the way its EXIF data says it was taken."""
    _need("PIL", "reading images")
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except FileNotFoundError as error:
        raise InputError(f"no image {path}", "give the path of an image file") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is no image that Pillow knows", "give a JPEG, PNG, WebP… file") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"can't read the image {path}: {plugins.first_line(error)}", "the file is damaged, or no image"
        ) from error


def pixels(image: Any, settings: Mapping[str, Any]) -> Array:
    """One Pillow image as a float32 array, as the `image` section says: resized, cropped, scaled, normalised."""
    import numpy as np

    color = settings["color"]
    image = image.convert("L" if color == "L" else "RGB")
    if (size := settings["size"]) is not None:
        from PIL import Image

        width, height = _target_size(image.size, size)
        image = image.resize((width, height), Image.Resampling[settings["resample"].upper()])
    array = np.asarray(image)
    array = array[..., None] if array.ndim == 2 else array
    if settings["crop"] is not None:
        array = _center_crop(array, *settings["crop"])
    array = array[..., ::-1] if color == "BGR" else array
    if settings["rescale"] is not None:
        array = array.astype(np.float64) * settings["rescale"]
    array = array.astype(np.float32)
    if settings["mean"] is not None:
        array = (array - np.float32(settings["mean"])) / np.float32(settings["std"])
    return np.ascontiguousarray(array if settings["layout"] == "NHWC" else array.transpose(2, 0, 1))


def _target_size(given: tuple[int, int], size: Sequence[int] | Mapping[str, int]) -> tuple[int, int]:
    """(width, height) to resize to; a shortest edge keeps the proportions, rounding the longer edge down."""
    if not isinstance(size, Mapping):
        return size[1], size[0]
    edge, (width, height) = size["shortest_edge"], given
    return (edge, int(edge * height / width)) if width <= height else (int(edge * width / height), edge)


def _center_crop(array: Array, height: int, width: int) -> Array:
    """The middle of an image, with zeros around it where the image is smaller."""
    import numpy as np

    top, left = (array.shape[0] - height) // 2, (array.shape[1] - width) // 2
    cropped = np.zeros((height, width, array.shape[2]), array.dtype)
    inside = array[max(top, 0) : top + height, max(left, 0) : left + width]
    row, column = max(-top, 0), max(-left, 0)
    cropped[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    return cropped


# --------------------------------------------------------------------------------------- what outputs say


def readable(artifact: Artifact, outputs: Mapping[str, Array], texts: Sequence[Text] | None = None) -> list[str]:
    """Lines that say what `outputs` mean, as far as the artifact's task is known; none where it is not.

    The best classes with their probabilities, a label a token, the cosine similarities of embeddings; with
    the `texts` that were given, words in place of token numbers, answers to questions, masks filled in, and the
    next token.
    """
    processing = artifact.processing
    if (name := str(processing.get("embedding"))) in outputs:
        return _similarities(outputs[name])
    task, labels = processing.get("task"), processing.get("labels", {}).get("logits")
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
    if not texts or not settings or not artifact.inputs:
        return None
    return _encode(load_tokenizer(artifact), settings, texts, _longest(settings, artifact.inputs[0].shape[-1]))


def _padding(artifact: Artifact) -> str:
    return str(artifact.processing.get("text", {}).get("padding_side", "right"))


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
        context = text if isinstance(text, str) else text[1]
        offset = _offset(starts.shape[1], encoding.tokens, padding)
        inside = [i for i, s in enumerate(encoding.sequence_ids) if s == (0 if isinstance(text, str) else 1)]
        if not inside:
            continue
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


# --------------------------------------------------------------------------------------- checks


def section(artifact: Artifact, name: str, what: str) -> Mapping[str, Any]:
    """A section of the artifact's `processing`. Raises InputError, which calls it `what`, when it has none."""
    found = artifact.processing.get(name)
    if isinstance(found, Mapping):
        return found
    reason = artifact.processing.get("left_out", {}).get(name)
    raise InputError(f"this artifact carries no {what}" + (f": {reason}" if reason else ""), "give --input")


def _check_rows(size: int | Dim, count: int, what: str) -> None:
    if count == 0:
        raise InputError(f"no {what} is given", f"give at least one {what}")
    if isinstance(size, int) and size != count:
        raise InputError(
            f"this artifact takes batches of exactly {size}, {count} {what}{'s' * (count > 1)} were given",
            f"give {size} at a time, or export with a dynamic batch: --input 'NAME:DTYPE[batch,…]'",
        )
    if isinstance(size, Dim) and not size.allows(count):
        raise InputError(
            f"{count} {what}s don't fit the batch sizes of this artifact: {size}", "give fewer or more"
        )


def _need(module: str, doing: str) -> None:
    if not plugins.importable(module):
        raise InputError(f"{doing} needs {module}", known.MODULES[module])
