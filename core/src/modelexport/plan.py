"""The shortest chain of formats from what the source is to what a target takes.

A target names the formats it consumes; core itself makes `captured` from a live module, and every target
makes the format that bears its name. So a target that takes another target's files has no exporter of its
own, and a model is captured once however many targets are asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from .errors import TargetError

MODULE, CAPTURED = "module", "captured"


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
