"""The user's texts, as tokens: some to calibrate on, the others to measure on what was lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from modelexport.contract import Artifact, stage
from modelexport.errors import InputError
from modelexport.toolkit import open_calibration, scratch, split_data

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modelexport.contract import Array, Arrays, Source

    from . import ExportOptions

#: texts that the loss is measured on, at most
JUDGED = 32

#: samples that the gate checks, and tokens of each, at most
GATED_SAMPLES, GATED = 6, 96


@dataclass(frozen=True)
class Texts:
    """Samples to calibrate on, samples to judge by, and what the latter are, in words."""

    calibration: Iterable[Arrays]
    judged: Sequence[Arrays]
    what: str


@contextmanager
def opened(source: Source, options: ExportOptions) -> Iterator[Texts]:
    """The texts that the options name, for the source's own tokenizer; they are read while this is open.

    Raises InputError where there is no such file, no tokenizer, or nothing in it to learn from.
    """
    with scratch("texts") as folder:
        for name, path in source.files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        artifact = Artifact(folder, "", "", source.specs, (), processing=source.processing)
        stage("read the calibration data")
        samples = open_calibration(
            artifact, options.calibration or "", samples=options.samples, column=options.column
        )
        data = split_data(artifact, samples)
        yield Texts(data.calibration or samples, judged(data.inputs, options.length), data.what)


def gated(samples: Sequence[Arrays]) -> tuple[Arrays, ...]:
    """What the gate is to check of the samples that are judged by: a few alone, and the first two in one batch.

    They are short, since the logits of every token are kept, as wide as the vocabulary.
    """
    some = tuple(cut(samples[:GATED_SAMPLES], GATED))
    return (*some, padded(some[:2])) if len(some) > 1 else some


def padded(samples: Sequence[Arrays]) -> Arrays:
    """The rows of all samples, filled up with zeros on the right, where their masks are 0 as well."""
    import numpy as np

    width = max(sample["input_ids"].shape[-1] for sample in samples)
    return {
        name: np.concatenate([np.pad(s[name], ((0, 0), (0, width - s[name].shape[-1]))) for s in samples])
        for name in samples[0]
    }


def judged(samples: Iterable[Arrays], length: int) -> tuple[Arrays, ...]:
    """The samples that the loss is measured on: those with a token to predict."""
    return tuple(islice((each for each in cut(samples, length) if each["input_ids"].shape[-1] > 1), JUDGED))


def cut(samples: Iterable[Arrays], length: int) -> Iterator[Arrays]:
    """Samples of `length` tokens at most."""
    return ({name: array[:, :length] for name, array in sample.items()} for sample in samples)


def joined(samples: Iterable[Arrays], length: int) -> Iterator[Array]:
    """The tokens of all samples one after another, `length` a row: [1, length], the last one shorter.

    Calibration takes as long as there are rows, whatever their length. Raises InputError where there are none.
    """
    import numpy as np

    waiting, empty = np.zeros(0, np.int64), True
    for sample in cut(samples, length):
        ids = sample["input_ids"]
        kept = ids[sample["attention_mask"] != 0] if "attention_mask" in sample else ids.ravel()
        waiting = np.concatenate([waiting, kept])
        while len(waiting) >= length:
            yield waiting[None, :length]
            waiting, empty = waiting[length:], False
    if len(waiting):
        yield waiting[None]
    elif empty:
        raise InputError("there are no texts to calibrate on", "give a few dozen")
