"""What `mx export` is asked for, found to be possible before the model is loaded: the steps to each target.

References, options, places and data are looked at here, so that nothing wrong is found after minutes of work.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..contract.artifacts import Artifact
from ..contract.options import FILE_ACCESS, option_keys
from ..contract.sources import LoadOptions, Source
from ..contract.target import CAPTURED, MODULE, Target
from ..errors import OptionError, OutputError, SourceError, TargetError, a
from ..model import narrow, resolve, weights
from ..plugins import calls, manager
from ..regular import check_path
from ..store import manifest, staging
from ..store.arrays import load_npz
from ..usercode import import_user_module, names_object
from . import plan, snippets, transform
from .requests import Judgement, Verification


@dataclass(frozen=True)
class Request:
    """What `mx export` is asked for. `register` names modules to import first, `values` are options by `key` or
    `target.key`, `dims` the texts of `--dim`, `languages` those of snippets."""

    source: Any
    targets: Sequence[str]
    out: Path
    load: LoadOptions = LoadOptions()
    judgement: Judgement = Judgement()
    verification: Verification = Verification()
    register: Sequence[str] = ()
    name: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    dims: Sequence[str] = ()
    languages: Sequence[str] = ()
    precision: str | None = None


@dataclass(frozen=True)
class ReadyStep:
    """A planned step with its plugin and options."""

    planned: plan.PlannedStep
    plugin: manager.Plugin
    options: Any

    @property
    def key(self) -> str:
        """What tells it from other steps that start from the same artifact."""
        return f"{self.planned.target} {self.planned.verb} {calls.in_force(self.options)}"


@dataclass(frozen=True)
class Way:
    """The steps to one target, and where the artifact of each goes; artifacts of other targets do not stay."""

    target: str
    steps: tuple[ReadyStep, ...]
    places: tuple[Path, ...] = ()

    def on_the_way(self, index: int) -> bool:
        return self.steps[index].planned.target != self.target


def without_own_precision(request: Request) -> Request:
    """The request without a precision that its source has already: a quantized artifact is compiled as it is.

    Raises ArtifactError for an artifact that is quantized to another precision, OptionError for data to quantize
    it with.
    """
    artifact = source_artifact(request.source)
    if artifact is None or request.precision is None:
        return request
    if plan.HALVES.get(request.precision, request.precision) != artifact.precision:
        transform.refuse_quantized(artifact)
        return request
    if not request.judgement.idle:
        raise OptionError(
            f"{artifact.path} is {artifact.precision} already: calibration data and goals do not apply",
            "leave them out",
        )
    return replace(request, precision=None)


def source_artifact(source: Any) -> Artifact | None:
    """The artifact that a reference names, if it names one."""
    if not isinstance(source, (str, os.PathLike)) or names_object(os.fspath(source)):
        return None
    check_path(source, SourceError)
    return manifest.read(Path(source), check_files=False) if manifest.is_in(Path(source)) else None


def check(request: Request) -> dict[str, dict[str, Any]]:
    """Find what is wrong without the model. Returns what each target holds of the dims."""
    for module in request.register:
        import_user_module(module)
    _check_name(request.name)
    held = narrow.parse(request.dims, request.targets)
    snippets.check(request.targets, request.languages)
    for name in request.targets:
        manager.require(name, "export")
    artifact = source_artifact(request.source)
    start = artifact.format if artifact is not None else resolve.likely_format(request.source)
    if artifact is not None and start in request.targets:
        raise SourceError(f"{artifact.path} is {a(artifact.format)} artifact already", "give another --target")
    resolve.check_task(request.source, request.load.task)
    if artifact is not None and request.load.inputs:
        raise OptionError(f"--input does not go with {artifact.path}, which declares its own", "leave it out")
    adopted = artifact is not None or start not in (None, MODULE, CAPTURED)
    try:
        ways = ways_to(request, start or MODULE, adopted, certain=start is not None)
    except TargetError:
        if start is not None:
            raise
        ways = []  # what the source turns out to be may lead there on another way
    if request.load.weights is not None:
        weights.check(request.load.weights)
    if request.verification.sample is not None:
        load_npz(request.verification.sample)
    for way in ways:
        check_options(request, way, None)
        placed(request, way, "model" if request.name is None else request.name, named=request.name is not None)
    return held


#: what names nothing, something hidden or elsewhere, or what Windows keeps for itself
_UNUSABLE = re.compile(r"""^(\.|$)|[<>:"/\\|?*]|[ .]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)""", re.IGNORECASE)


def _check_name(name: str | None) -> None:
    """Raise OptionError for a name that leads into another folder, hides what it names, or is none elsewhere."""
    if name is None:
        return
    hint = "give a plain name; -o says where it goes"
    if not name.isprintable() or _UNUSABLE.search(name):
        raise OptionError(f"--name {name[:80]!r} can't be the name of an artifact", hint)
    if (size := len(name.encode())) > resolve.LONGEST_NAME:
        raise OptionError(f"--name has {size} bytes, {resolve.LONGEST_NAME} are taken", hint)


def ways_to(request: Request, start: str, adopted: bool, certain: bool = True) -> list[Way]:
    """The steps to each target from a source in the format `start`, with their options.

    Where it is not `certain` that the source has that format, whether the steps on the way can be done here is
    left open. Raises TargetError, and OptionError for a precision, an option, data or a goal that no step has a
    use for.
    """

    def describe(name: str) -> Target:
        return manager.target(name).target

    routes = [plan.route(target, request.precision, start, describe, adopted) for target in request.targets]
    _check_judgement(request, routes)
    wanted = [(route, step) for route in routes for step in route.steps]
    for route, step in wanted:
        if certain or step.target == route.target:
            manager.require(step.target, step.verb)
    verbs = [_call(request, step) for _, step in wanted]
    options = iter(calls.options_of(verbs, request.values))
    return [
        Way(route.target, tuple(ReadyStep(s, manager.target(s.target), next(options)) for s in route.steps))
        for route in routes
    ]


def _call(request: Request, step: plan.PlannedStep) -> calls.VerbCall:
    """The call of a step's verb, with what the command allows where the verb has an option for it."""
    call = calls.VerbCall(step.target, step.verb, step.options, step.target in request.targets)
    if request.load.allow_file_access and FILE_ACCESS in option_keys(call.kind):
        return call._replace(given={**step.options, FILE_ACCESS: True})
    return call


def check_options(request: Request, way: Way, source: Source | None) -> None:
    """Let every target on the way refuse what can't be; `source` is None before the model is loaded."""
    for name in dict.fromkeys(step.planned.target for step in way.steps):
        steps = [step for step in way.steps if step.planned.target == name]
        options = {step.planned.verb: step.options for step in steps}
        calls.check(steps[0].plugin, options, source, request.precision, request.judgement.data is not None)


def _check_judgement(request: Request, routes: Sequence[plan.Route]) -> None:
    if request.judgement.idle:
        return
    if request.precision is None:
        raise OptionError("calibration data and goals go with --precision", "add --precision, or use mx quantize")
    idle = next((route.target for route in routes if not route.quantizes), None)
    if idle is not None:
        raise OptionError(
            f"target {idle!r} does not quantize for {request.precision}: calibration data and goals do not apply",
            "leave them out",
        )


def placed(request: Request, way: Way, name: str, named: bool = True) -> Way:
    """The way with its places, each of which can be written. Raises OutputError.

    Without a name yet, only the folder is looked at.
    """
    files = plan.names(way.target, [step.planned for step in way.steps], request.name or name, request.precision)
    places = tuple(request.out / file for file in files)
    check_path(request.out, OutputError)
    for index, place in enumerate(places):
        check_path(place, OutputError)
        if named and not way.on_the_way(index):
            staging.check_place(place)
    if not named:
        staging.check_folder(request.out)
    return replace(way, places=places)
