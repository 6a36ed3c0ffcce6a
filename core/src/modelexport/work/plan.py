"""What is made from what: the formats that lead from a source to a target, and the verbs that lead to a precision.

A target names the formats it consumes; core itself makes `captured` from a live module, and every target makes the
format that bears its name. So a target that takes another target's files has no exporter of its own, and a model
is captured once however many targets are asked for.

A precision is made where it can be: by the target's own verbs, or in a format on the way, which the target then
compiles. What is compiled is quantized before, so an engine in int8 is built once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..contract.target import CAPTURED, MODULE, Target
from ..errors import OptionError, TargetError
from ..plugins import known

#: what `--precision` calls half precision → what artifacts and budgets call it
HALVES = {"fp16": "float16", "bf16": "bfloat16"}

#: the verbs that may follow an export, in the order in which they do
AFTER_EXPORT = ("optimize", "quantize")


@dataclass(frozen=True)
class PlannedStep:
    """One verb of one target, with what the plan says about its options; the user's come on top."""

    target: str
    verb: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """The steps that lead to one target, in order. `captures`: the model is captured before the first."""

    target: str
    steps: tuple[PlannedStep, ...]
    captures: bool = False

    @property
    def quantizes(self) -> bool:
        """Whether one of the steps looks at calibration data and goals."""
        return any(step.verb == "quantize" for step in self.steps)


def route(
    name: str, precision: str | None, start: str, describe: Callable[[str], Target], adopted: bool = False
) -> Route:
    """The route to target `name` at `precision` from a source in the format `start`.

    `describe` gives the Target called so, and raises TargetError where there is none. `adopted`: the source is an
    artifact already, so the verbs of its own format take it as it is. Raises TargetError where no chain of formats
    leads there, OptionError where no target on it has the precision.
    """
    formats = chain(name, start, lambda each: describe(each).consumes)
    captures = CAPTURED in formats and formats != (CAPTURED,)
    exported = [each for each in formats if each != CAPTURED or each == formats[-1]]
    exports = tuple(PlannedStep(each, "export") for each in exported)
    if precision is None:
        return Route(name, exports, captures)
    own = describe(name)
    exports = (*exports[:-1], PlannedStep(name, "export", own.verbs_of(precision).get("export", {})))
    if precision in own.precisions and precision not in own.compiles:
        before = exports[:-1]
        return Route(name, (*before, *_verbs(own, precision, own.verbs_of(precision))), captures)
    # The format next to the target comes first: what is quantized late keeps more of what was done before.
    candidates = [*reversed(exported[:-1]), start]
    for each in candidates:
        ways = _ways(each, precision, own, describe)
        if ways is None:
            continue
        verbs = _verbs(describe(each), precision, ways)
        if each == start:  # nothing is exported to it: a file is adopted, an artifact taken as it is
            return Route(name, (*(verbs[1:] if adopted else verbs), *exports), captures)
        at = exported.index(each)
        return Route(name, (*exports[:at], *verbs, *exports[at + 1 :]), captures)
    raise _no_precision(own, precision, candidates, describe)


def _ways(
    name: str, precision: str, target: Target, describe: Callable[[str], Target]
) -> Mapping[str, Mapping[str, str]] | None:
    """Verb → options that make the precision in the format `name` for `target`; None where it has no way to it."""
    try:
        described = describe(name)
    except TargetError:
        return None  # a format that only sources have
    if precision in target.compiles and name in target.consumes:
        return target.compiles[precision]
    return described.verbs_of(precision) if precision in described.precisions else None


def _verbs(target: Target, precision: str, ways: Mapping[str, Mapping[str, str]]) -> tuple[PlannedStep, ...]:
    """The export to `target`, and the verbs behind it that `ways` name."""
    after = [PlannedStep(target.name, verb, ways[verb]) for verb in AFTER_EXPORT if verb in ways]
    return (PlannedStep(target.name, "export", ways.get("export", {})), *after)


def _no_precision(
    target: Target, precision: str, candidates: Sequence[str], describe: Callable[[str], Target]
) -> OptionError:
    offered = list(target.precisions)
    for name in candidates:
        try:
            offered += describe(name).precisions
        except TargetError:
            continue
    has = ", ".join(dict.fromkeys(offered))
    return OptionError(
        f"target {target.name!r} has no precision {precision!r}", f"it has {has}" if has else "it has none"
    )


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


def names(target: str, steps: Sequence[PlannedStep], name: str, precision: str | None) -> tuple[str, ...]:
    """The file name of each step's artifact on the way to `target`.

    The last bears the precision; those between it and the export of the same target bear their verb.

    >>> names("x", [PlannedStep("x", verb) for verb in ("export", "optimize", "quantize")], "net", "int8")
    ('net.x', 'net.optimized.x', 'net.int8.x')
    """

    def middle(index: int, step: PlannedStep) -> str:
        if index == len(steps) - 1 and precision is not None:
            return f".{precision}"
        return "" if step.verb == "export" else f".{step.verb}d"

    return tuple(f"{name}{middle(index, step)}.{step.target}" for index, step in enumerate(steps))
