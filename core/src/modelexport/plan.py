"""What is made from what: the shortest chain of formats from what the source is to what a target takes, and the
verbs that follow for a lower precision.

A target names the formats it consumes; core itself makes `captured` from a live module, and every target
makes the format that bears its name. So a target that takes another target's files has no exporter of its
own, and a model is captured once however many targets are asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import known
from .errors import OptionError, TargetError
from .target import Target

MODULE, CAPTURED = "module", "captured"

#: the verbs that may follow an export, in the order in which they do
AFTER_EXPORT = ("optimize", "quantize")


def chain(target: str, start: str, consumes: Callable[[str], Sequence[str]]) -> tuple[str, ...]:
    """The formats to make, in order, to get from `start` to `target`, which is the last of them.

    `consumes(name)` gives the formats that the target called `name` accepts, best first, and raises
    TargetError when there is no such target. Raises TargetError when no chain exists.

    >>> takes = {"trt": ("onnx",), "onnx": ("captured",)}
    >>> chain("trt", "module", takes.__getitem__)
    ('captured', 'onnx', 'trt')
    """
    if target == start:
        return (target,)
    queue: deque[tuple[str, ...]] = deque([(target,)])
    seen, problems = {target}, []
    while queue:
        path = queue.popleft()
        try:
            accepted = _accepted(path[0], consumes)
        except TargetError as error:
            if len(path) == 1:
                raise
            if path[0] in known.TARGETS:  # other formats are made by no target: only sources have them
                problems.append(error)
            continue
        for name in accepted:
            if name == start:
                return path
            if name not in seen:
                seen.add(name)
                queue.append((name, *path))
    if problems:
        raise problems[0]
    raise TargetError(
        f"there is no way from {start!r} to target {target!r}",
        f"it takes {', '.join(consumes(target))}: start from a model in one of these formats",
    )


def _accepted(name: str, consumes: Callable[[str], Sequence[str]]) -> Sequence[str]:
    if name == MODULE:
        return ()
    return (MODULE,) if name == CAPTURED else consumes(name)


def recipe(target: Target, precision: str | None) -> dict[str, Mapping[str, str]]:
    """The verbs that lead to an artifact of `target` at `precision`, in order, each with its options.

    Raises OptionError when the target has no such precision.
    """
    if precision is None:
        return {"export": {}}
    if precision not in target.precisions:
        has = ", ".join(target.precisions)
        raise OptionError(
            f"target {target.name!r} has no precision {precision!r}", f"it has {has}" if has else "it has none"
        )
    steps = target.precisions[precision]
    return {"export": steps.get("export", {}), **{verb: steps[verb] for verb in AFTER_EXPORT if verb in steps}}


def places(verbs: Sequence[str], folder: Path, name: str, target: str, precision: str | None) -> dict[str, Path]:
    """Where each step's artifact goes: the last bears the precision, those between it and the first their verb.

    >>> list(places(("export", "optimize", "quantize"), Path(), "net", "x", "int8").values())  # doctest: +SKIP
    [Path('net.x'), Path('net.optimized.x'), Path('net.int8.x')]
    """

    def middle(verb: str) -> str:
        if verb == verbs[-1] and precision is not None:
            return f".{precision}"
        return "" if verb == verbs[0] else f".{verb}d"

    return {verb: folder / f"{name}{middle(verb)}.{target}" for verb in verbs}
