"""How much accuracy a quantized copy keeps: one score, of a session, against the artifact it was made from.

Every metric is a number of which more is better and 1 is all, so that `--max-drop` means one thing: how much
less than the artifact itself the copy may score.

    cosine   the lowest cosine similarity to the artifact's own outputs, over all samples and outputs
    sqnr     1 - noise power / signal power, of the worst output: 0.999 is 30 dB
    top1     the share of rows whose largest element stays the same one
    pkg.mod:score, file.py:score
             the user's own function of a session, such as the accuracy on labelled data
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..contract.goal import Goal
from ..errors import InputError, MxError, OptionError, first_line
from ..store.scratch import scratch

if TYPE_CHECKING:
    from ..contract.artifacts import Artifact
    from ..contract.sessions import Session
    from ..contract.tensors import Array, Arrays

METRICS = ("cosine", "sqnr", "top1")

#: what a session is given, or the rows of it that count, at most: a score is taken many times in a search
SAMPLES = 64


def check_metric(metric: str, evaluate: object | None, max_drop: float | None) -> None:
    """Raise OptionError for a metric that there isn't, or a drop that makes no sense."""
    name, _, _ = metric.partition(":")
    if name not in METRICS:
        raise OptionError(
            f"there is no metric {metric!r}",
            f"one of {', '.join(METRICS)} (cosine:OUTPUT judges one output), or --evaluate pkg.mod:score",
        )
    if max_drop is not None and not 0 <= max_drop < 1 and evaluate is None:
        raise OptionError(f"--max-drop {max_drop:g} makes no sense", "metrics go from 0 to 1: give 0.005, say")
    if max_drop is not None and not math.isfinite(max_drop):
        raise OptionError(f"--max-drop {max_drop:g} makes no sense", "give a number, such as 0.005")


@contextmanager
def goal(
    artifact: Artifact,
    session: Session,
    inputs: Iterable[Arrays],
    data: str,
    *,
    metric: str = "cosine",
    evaluate: Callable[[Session], float] | None = None,
    max_drop: float | None = None,
) -> Iterator[Goal]:
    """The Goal for copies of `artifact`, which `session` runs: judged on `inputs`, or by `evaluate`.

    The artifact's own answers to `inputs` are kept in a temporary folder, not in memory, until the block ends.
    Raises OptionError for an output that the metric can't judge.
    """
    check_metric(metric, evaluate, max_drop)
    samples = _first(inputs, SAMPLES)
    if evaluate is not None:
        score = _own_score(evaluate)
        name = getattr(evaluate, "__qualname__", type(evaluate).__name__)
        yield Goal(name, score, score(session), name, max_drop, samples)
        return
    kind, _, output = metric.partition(":")
    names = _judged(artifact, kind, output)
    with scratch("goal") as folder:
        answers = [_keep(session(sample), names, folder, i) for i, sample in enumerate(samples)]
        measure = {"cosine": _cosine, "sqnr": _sqnr, "top1": _top1}[kind]

        def taken(copy: Session) -> float:
            return measure(_pairs(copy, samples, answers))

        yield Goal(metric, taken, 1.0, data, max_drop, samples)


def figures(session: Session, samples: Sequence[Arrays], reference: Session) -> dict[str, dict[str, float]]:
    """Every metric of every floating-point output, for reports: output → metric → figure; `sqnr` in dB here."""
    answers = [reference(sample) for sample in samples]
    by_output: dict[str, dict[str, float]] = {}
    for name in (name for name, array in answers[0].items() if array.dtype.kind == "f"):
        own = [{name: answer[name]} for answer in answers]
        pairs = list(_pairs(session, samples, own))
        noise = 1 - _sqnr(pairs)
        cosines = [value for pair in pairs for value in _row_cosines(*pair[1:])]
        by_output[name] = {"cosine": min(cosines), "mean cosine": sum(cosines) / len(cosines)}
        by_output[name]["sqnr"] = -10 * math.log10(max(noise, 1e-20))
        if own[0][name].ndim >= 2 and own[0][name].shape[-1] > 1:
            by_output[name]["top1"] = _top1(pairs)
    return by_output


# --------------------------------------------------------------------------------------- what is judged


def _first(inputs: Iterable[Arrays], count: int) -> list[Arrays]:
    samples = []
    for sample in inputs:
        samples.append(sample)
        if len(samples) == count:
            break
    if not samples:
        raise InputError("there is nothing to judge the accuracy on", "give --calibration")
    return samples


def _own_score(evaluate: Callable[[Session], float]) -> Callable[[Session], float]:
    def score(session: Session) -> float:
        try:
            value = float(evaluate(session))
        except MxError:
            raise
        except Exception as error:
            raise InputError(
                f"--evaluate raised {type(error).__name__}: {first_line(error)}",
                "it is called with a Session, session({name: array}) -> {name: array}, and returns a number",
            ) from error
        if not math.isfinite(value):
            raise InputError(f"--evaluate returned {value}", "return a finite number; more must be better")
        return value

    return score


def _judged(artifact: Artifact, kind: str, output: str) -> list[str]:
    """The outputs that the metric looks at: the one named, the embedding, or all that it can judge."""
    floats = [s.name for s in artifact.outputs if s.dtype.startswith(("float", "bfloat"))]
    if output:
        if output not in floats:
            raise OptionError(
                f"the model has no floating-point output {output!r} to judge", f"it has {', '.join(floats)}"
            )
        return [output]
    if (embedding := artifact.processing.get("embedding")) in floats and kind != "top1":
        return [str(embedding)]
    if kind == "top1":
        ranks = {spec.name: spec.shape for spec in artifact.outputs}
        floats = [name for name in floats if len(ranks[name]) >= 2 and ranks[name][-1] != 1]
    if not floats:
        raise OptionError(f"the model has no output that {kind} can judge", "give --evaluate pkg.mod:score")
    return floats


def _keep(outputs: Mapping[str, Array], names: Sequence[str], folder: Path, index: int) -> dict[str, Array]:
    """The outputs judged, on disk."""
    import numpy as np

    kept = {}
    for number, name in enumerate(names):
        file = folder / f"{index}-{number}.npy"
        stream = io.BytesIO()  # given a file, numpy does not notice that the disk is full
        np.save(stream, outputs[name].astype(np.float32))
        file.write_bytes(stream.getbuffer())
        kept[name] = np.load(file, mmap_mode="r", allow_pickle=False)
    return kept


def _pairs(
    session: Session, samples: Sequence[Arrays], answers: Sequence[Mapping[str, Array]]
) -> Iterator[tuple[str, Array, Array]]:
    """(output, what the copy says, what the artifact says) for every sample."""
    import numpy as np

    for sample, answer in zip(samples, answers, strict=True):
        got = session(sample)
        for name, want in answer.items():
            if got[name].shape != want.shape:
                raise InputError(
                    f"output {name!r} has shape {list(got[name].shape)}, the artifact gives {list(want.shape)}",
                    "the quantized copy computes something else",
                )
            yield name, got[name].astype(np.float32), np.asarray(want)


# --------------------------------------------------------------------------------------- metrics


def _cosine(pairs: Iterable[tuple[str, Array, Array]]) -> float:
    return min(value for _, got, want in pairs for value in _row_cosines(got, want))


def _row_cosines(got: Array, want: Array) -> list[float]:
    """One cosine similarity a row (or one for an output without rows); NaN anywhere counts as 0."""
    import numpy as np

    rows = want.shape[0] if want.ndim > 1 else 1
    a, b = (array.reshape(rows, -1).astype(np.float64) for array in (got, want))
    if not a.size:
        return [1.0]
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    same = np.all(a == b, axis=1)
    cosines = np.where(same, 1.0, (a * b).sum(1) / np.where(norms == 0, 1.0, norms))
    return [float(value) for value in np.nan_to_num(cosines, nan=0.0)]


def _sqnr(pairs: Iterable[tuple[str, Array, Array]]) -> float:
    import numpy as np

    power: dict[str, list[float]] = {}
    for name, got, want in pairs:
        signal, noise = power.setdefault(name, [0.0, 0.0])
        finite = np.isfinite(want)
        gap = np.nan_to_num((got - want)[finite].astype(np.float64), nan=np.inf)
        power[name] = [signal + float((want[finite].astype(np.float64) ** 2).sum()), noise + float((gap**2).sum())]
    return min(1 - noise / signal if signal else float(noise == 0) for signal, noise in power.values())


def _top1(pairs: Iterable[tuple[str, Array, Array]]) -> float:
    same: dict[str, list[int]] = {}
    for name, got, want in pairs:
        right, total = same.setdefault(name, [0, 0])
        hits = got.argmax(-1) == want.argmax(-1)
        same[name] = [right + int(hits.sum()), total + hits.size]
    return min(right / total for right, total in same.values())
