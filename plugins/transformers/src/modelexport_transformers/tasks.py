"""Which task an architecture is for: read from the tables transformers itself keeps, by class name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from modelexport.errors import SourceError

FEATURES = "feature-extraction"
GENERATION = "text-generation"


@dataclass(frozen=True)
class Task:
    """`tables` of transformers that list its classes by model type, best first; `outputs` it may give."""

    tables: tuple[str, ...]
    outputs: tuple[str, ...]


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "text-classification": Task(("SEQUENCE_CLASSIFICATION",), ("logits",)),
        "token-classification": Task(("TOKEN_CLASSIFICATION",), ("logits",)),
        "question-answering": Task(("QUESTION_ANSWERING",), ("start_logits", "end_logits")),
        "fill-mask": Task(("MASKED_LM",), ("logits",)),
        "image-classification": Task(("IMAGE_CLASSIFICATION",), ("logits",)),
        GENERATION: Task(("CAUSAL_LM",), ("logits",)),
        FEATURES: Task(("", "TEXT_ENCODING"), ("last_hidden_state", "pooler_output")),
    }
)

#: other names that transformers' pipelines have for them
ALIASES = MappingProxyType(
    {"sentiment-analysis": "text-classification", "ner": "token-classification", "sentence-similarity": FEATURES}
)

#: tasks that exist and are not supported: a near miss in spelling must not turn one into another
_ELSEWHERE = frozenset(
    """
    text2text-generation summarization translation conversational zero-shot-classification
    table-question-answering document-question-answering visual-question-answering multiple-choice
    automatic-speech-recognition audio-classification text-to-audio text-to-speech video-classification
    zero-shot-image-classification zero-shot-object-detection object-detection image-segmentation
    depth-estimation image-to-image image-to-text image-text-to-text mask-generation
    """.split()  # noqa: SIM905  a paragraph, not a column
)


def check(name: str) -> str:
    """The task called `name` on the command line. Raises SourceError: unknown, or not supported."""
    name = ALIASES.get(name, name)
    if name in TASKS:
        return name
    supported = f"supported tasks: {', '.join(TASKS)}"
    if name in _ELSEWHERE:
        raise SourceError(f"task {name!r} is not supported", f"{supported}; or write a file.py:factory")
    close = difflib.get_close_matches(name, [*TASKS, *ALIASES], n=1)
    raise SourceError(f"unknown task {name!r}", f"did you mean {close[0]!r}? {supported}" if close else supported)


def of_architecture(architectures: Sequence[str]) -> str:
    """The task an architecture was built for. Raises SourceError where there is none, or it isn't supported."""
    if not architectures:
        raise SourceError("config.json names no architecture", f"give --task: {', '.join(TASKS)}")
    name = architectures[0]
    for task in TASKS:
        if any(name in classes for _, classes in _classes(task)):
            return task
    other = next((_spoken(table) for table in _other_tables() if _lists(table, name)), None)
    raise SourceError(
        f"{name} is a model for {other}, which is not supported"
        if other
        else f"transformers does not list {name} for any task",
        f"give a --task that its weights serve ({', '.join(TASKS)}), or write a file.py:factory",
    )


def model_class(task: str, model_type: str, architectures: Sequence[str]) -> Any:
    """The class to load: the checkpoint's own where it is for this task, else the one of its model type."""
    import transformers

    own = [name for name in architectures if any(name in classes for _, classes in _classes(task))]
    listed = [name for kind, classes in _classes(task) if kind == model_type for name in classes]
    for name in (*own, *listed):
        if (kind := getattr(transformers, name, None)) is not None:
            return kind
    raise SourceError(
        f"transformers has no {task} model of the type {model_type!r}",
        f"give another --task ({', '.join(TASKS)}), or write a file.py:factory",
    )


# --------------------------------------------------------------------------------------- transformers' tables


def _classes(task: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(model type, its class names) for every model type that has the task."""
    for short in TASKS[task].tables:
        yield from _entries(f"MODEL_FOR_{short}_MAPPING_NAMES" if short else "MODEL_MAPPING_NAMES")


def _entries(table: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    from transformers.models.auto import modeling_auto

    for kind, names in getattr(modeling_auto, table, {}).items():
        yield kind, (names,) if isinstance(names, str) else tuple(names)


def _lists(table: str, name: str) -> bool:
    return any(name in names for _, names in _entries(table))


def _other_tables() -> list[str]:
    """The remaining tables; pretraining last, since it repeats classes of the others."""
    from transformers.models.auto import modeling_auto

    tables = [n for n in vars(modeling_auto) if n.startswith("MODEL_FOR_") and n.endswith("_MAPPING_NAMES")]
    return sorted(tables, key=lambda name: "PRETRAINING" in name)


def _spoken(table: str) -> str:
    words = table.removeprefix("MODEL_FOR_").removesuffix("_MAPPING_NAMES").lower().replace("_", " ")
    return {"seq to seq causal lm": "sequence-to-sequence generation"}.get(words, words)
