"""`mx export` from end to end: check, load, prepare, make every step, and put the results in place together.

Whatever can be wrong with the command is found before the model is loaded. Every step is made in a hidden folder,
and nothing that is in place is replaced before the whole command has succeeded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..contract import progress
from ..contract.artifacts import Artifact
from ..contract.options import FILE_ACCESS, option_keys
from ..contract.sources import LoadOptions, Source
from ..contract.target import CAPTURED, MODULE, Target
from ..data.samples import Samples
from ..errors import ConversionError, MxError, OptionError, OutputError, SourceError, TargetError, a
from ..model import narrow, resolve, weights
from ..plugins import calls, manager
from ..regular import check_path
from ..store import manifest, staging, versions
from ..store.arrays import load_npz
from ..store.locks import Lock
from ..usercode import import_user_module, names_object
from . import plan, reuse, snippets, transform
from .convert import Conversion
from .prepare import Prepared, prepare_each
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
class _Step:
    """A planned step with its plugin and options."""

    planned: plan.PlannedStep
    plugin: manager.Plugin
    options: Any

    @property
    def key(self) -> str:
        """What tells it from other steps that start from the same artifact."""
        return f"{self.planned.target} {self.planned.verb} {calls.in_force(self.options)}"


@dataclass(frozen=True)
class _Way:
    """The steps to one target, and where the artifact of each goes; artifacts of other targets do not stay."""

    target: str
    steps: tuple[_Step, ...]
    places: tuple[Path, ...] = ()

    def on_the_way(self, index: int) -> bool:
        return self.steps[index].planned.target != self.target


def export(request: Request) -> tuple[Artifact, ...]:
    """Every target's artifact, in the order in which they were asked for.

    Raises a subclass of MxError. Every target gets its turn, whatever happens to the others; then the first error
    is raised, and what was finished is put in place only where that replaces nothing.
    """
    request = _without_own_precision(request)
    held = _check(request)
    with _source_kept(request.source) as source:
        progress.stage("load the model")
        loaded = resolve.resolve(request.source, request.load)
        steps = _ways(request, loaded.format, loaded.golden is not None)
        ways = [_placed(request, way, loaded.name) for way in steps]
        progress.stage("compute the reference")
        jobs = prepare_each(loaded, held, request.verification)
        for way in ways:
            described = jobs[way.target].described
            _check_options(request, way, replace(described.source, inputs=described.specs))
        with _Workshop(request, jobs) as workshop:
            for way in sorted(ways, key=lambda way: len(way.steps)):  # what others are made from comes first
                workshop.make(way)
            if source is not None:
                versions.check(source)
            return workshop.deliver(ways)


# --------------------------------------------------------------------------------------- before the model


def _without_own_precision(request: Request) -> Request:
    """The request without a precision that its source has already: a quantized artifact is compiled as it is.

    Raises ArtifactError for an artifact that is quantized to another precision, OptionError for data to quantize
    it with.
    """
    artifact = _source_artifact(request.source)
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


def _source_artifact(source: Any) -> Artifact | None:
    """The artifact that a reference names, if it names one."""
    if not isinstance(source, (str, os.PathLike)) or names_object(os.fspath(source)):
        return None
    check_path(source, SourceError)
    return manifest.read(Path(source), check_files=False) if manifest.is_in(Path(source)) else None


@contextmanager
def _source_kept(source: Any) -> Iterator[Lock | None]:
    """Keep a source that is an artifact from being replaced while it is exported."""
    if _source_artifact(source) is None:
        yield None
    else:
        with versions.reading(Path(source)) as lock:
            yield lock


def _check(request: Request) -> dict[str, dict[str, Any]]:
    """Find what is wrong without the model. Returns what each target holds of the dims."""
    for module in request.register:
        import_user_module(module)
    _check_name(request.name)
    held = narrow.parse(request.dims, request.targets)
    snippets.check(request.targets, request.languages)
    for name in request.targets:
        manager.require(name, "export")
    artifact = _source_artifact(request.source)
    start = artifact.format if artifact is not None else resolve.likely_format(request.source)
    if artifact is not None and start in request.targets:
        raise SourceError(f"{artifact.path} is {a(artifact.format)} artifact already", "give another --target")
    resolve.check_task(request.source, request.load.task)
    if artifact is not None and request.load.inputs:
        raise OptionError(f"--input does not go with {artifact.path}, which declares its own", "leave it out")
    adopted = artifact is not None or start not in (None, MODULE, CAPTURED)
    try:
        ways = _ways(request, start or MODULE, adopted, certain=start is not None)
    except TargetError:
        if start is not None:
            raise
        ways = []  # what the source turns out to be may lead there on another way
    if request.load.weights is not None:
        weights.check(request.load.weights)
    if request.verification.sample is not None:
        load_npz(request.verification.sample)
    for way in ways:
        _check_options(request, way, None)
        _placed(request, way, "model" if request.name is None else request.name, named=request.name is not None)
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


def _ways(request: Request, start: str, adopted: bool, certain: bool = True) -> list[_Way]:
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
        _Way(route.target, tuple(_Step(s, manager.target(s.target), next(options)) for s in route.steps))
        for route in routes
    ]


def _call(request: Request, step: plan.PlannedStep) -> calls.VerbCall:
    """The call of a step's verb, with what the command allows where the verb has an option for it."""
    call = calls.VerbCall(step.target, step.verb, step.options, step.target in request.targets)
    if request.load.allow_file_access and FILE_ACCESS in option_keys(call.kind):
        return call._replace(given={**step.options, FILE_ACCESS: True})
    return call


def _check_options(request: Request, way: _Way, source: Source | None) -> None:
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


def _placed(request: Request, way: _Way, name: str, named: bool = True) -> _Way:
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


# --------------------------------------------------------------------------------------- the work


@dataclass
class _Workshop:
    """Makes the steps of every way in a hidden folder, each once, and puts the results in place at the end."""

    request: Request
    jobs: Mapping[str, Prepared]
    folders: ExitStack = field(default_factory=ExitStack)
    made: dict[tuple[int, tuple[str, ...]], Artifact] = field(default_factory=dict)
    failures: dict[str, MxError] = field(default_factory=dict)
    data: dict[Path, Samples | None] = field(default_factory=dict)

    def __enter__(self) -> _Workshop:
        return self

    def __exit__(self, *_: object) -> None:
        self.folders.close()

    def make(self, way: _Way) -> None:
        """Make every step of the way that stays. What goes wrong is kept until every target had its turn."""
        try:
            for index in range(len(way.steps)):
                if not way.on_the_way(index):
                    self._step(way, index)
        except MxError as error:
            self.failures[way.target] = error

    def _step(self, way: _Way, index: int) -> Artifact:
        """The artifact of one step: made before, in place already, or made now."""
        key = (id(self.jobs[way.target]), tuple(step.key for step in way.steps[: index + 1]))
        if key not in self.made:
            self.made[key] = self._finished(way, index) or self._new(way, index)
        return self.made[key]

    def _before(self, way: _Way, index: int) -> Artifact | None:
        """What the step is made from, where that is an artifact that is there already."""
        if index == 0:
            return None
        return self.made.get((id(self.jobs[way.target]), tuple(step.key for step in way.steps[:index])))

    def _finished(self, way: _Way, index: int) -> Artifact | None:
        """What is in place, if it is what the step would make. One export by itself is always made anew."""
        if self.request.precision is None or way.on_the_way(index):
            return None
        steps = [
            reuse.WantedStep(step.planned.verb, step.plugin, step.options, self._before(way, i))
            for i, step in enumerate(way.steps[: index + 1])
        ]
        verification = self._verification(way, index)
        wanted = reuse.Wanted(
            self.jobs[way.target], steps, self.request.judgement, verification.tolerance, self.request.languages
        )
        finished = wanted.find(way.places[index])
        if finished is not None:
            progress.reused(finished.path)
        return finished

    def _new(self, way: _Way, index: int) -> Artifact:
        step, place, job = way.steps[index], way.places[index], self.jobs[way.target]
        before = self._step(way, index - 1) if index else None
        draft, verification = self._folder(way) / place.name, self._verification(way, index)
        failed = staging.failed_place(place)
        if way.on_the_way(index):
            failed = staging.failed_place(way.places[-1].with_name(f"{way.places[-1].name}.{step.planned.target}"))
        if step.planned.verb == "export":
            languages = () if way.on_the_way(index) else self.request.languages
            conversion = Conversion(job, step.plugin, step.options, before, languages, failed)
            return self._as_asked(way, index, conversion.make(draft, verification))
        source = before if before is not None else self._adopted(job)
        data = self._opened(source) if step.planned.verb == "quantize" else None
        judgement = self.request.judgement if step.planned.verb == "quantize" else None
        origin = reuse.origin(source, judgement, data, place=self._place_of(way, index - 1, source))
        work = transform.Transformation(step.planned.verb, source, step.plugin, step.options, origin)
        return self._as_asked(way, index, work.make(draft, self.request.judgement, data, verification, failed))

    def _as_asked(self, way: _Way, index: int, artifact: Artifact) -> Artifact:
        """The artifact, which bears the precision asked for in its name if it is the last of its way.

        Raises ConversionError where it has another one: a step that quantized nothing.
        """
        asked = self.request.precision
        last = index == len(way.steps) - 1
        if last and asked is not None and artifact.precision != plan.HALVES.get(asked, asked):
            raise ConversionError(
                f"target {way.target!r} wrote {artifact.precision}, not {asked}: nothing here is quantized",
                "leave --precision out, or look at the options with -k help",
            )
        return artifact

    def _adopted(self, job: Prepared) -> Artifact:
        """The source itself, which is an artifact."""
        assert job.source.path is not None
        return manifest.read(job.source.path)

    def _place_of(self, way: _Way, index: int, source: Artifact) -> Path:
        """Where what a step is made from will be; what is on the way is named by where it came from."""
        return source.path if index < 0 else way.places[index]

    def _opened(self, artifact: Artifact) -> Samples | None:
        """The calibration data, opened for the artifact, and once for all that quantize it."""
        if artifact.path not in self.data:
            if self.request.judgement.data is not None:
                progress.stage("read the calibration data")
            self.data[artifact.path] = self.request.judgement.open(artifact)
        return self.data[artifact.path]

    def _verification(self, way: _Way, index: int) -> Verification:
        """The user's tolerance is for the result and what it is compiled from; steps before have their budgets."""
        changing = [i for i, step in enumerate(way.steps) if step.planned.verb != "export"]
        if index >= max(changing, default=0):
            return self.request.verification
        return replace(self.request.verification, tolerance={})

    def _folder(self, way: _Way) -> Path:
        return self.folders.enter_context(staging.workshop(way.places[-1]))

    # ----------------------------------------------------------------------------------- the end

    def deliver(self, ways: Sequence[_Way]) -> tuple[Artifact, ...]:
        """Put the results in place, together, and return each target's last. Raises the first failure."""
        ready = [way for way in ways if not self.failures or self._replaces_nothing(way)]
        for way in ready:  # all of them, before the first is put in place
            for place, _ in self._finished_steps(way):
                staging.check_place(place)
        results = [self._put(way) for way in ready]
        if self.failures:
            first, *others = (self.failures[way.target] for way in ways if way.target in self.failures)
            if others:
                first.message += "; also " + "; ".join(error.message for error in others)
            raise first
        return tuple(result for result in results if result is not None)

    def _finished_steps(self, way: _Way) -> list[tuple[Path, Artifact]]:
        """The place and the artifact of each step that stays, as far as they were made."""
        steps = []
        for index, place in enumerate(way.places):
            artifact = self._before(way, index + 1)
            if artifact is not None and not way.on_the_way(index):
                steps.append((place, artifact))
        return steps

    def _replaces_nothing(self, way: _Way) -> bool:
        return all(place == artifact.path or not place.exists() for place, artifact in self._finished_steps(way))

    def _put(self, way: _Way) -> Artifact | None:
        last = None
        for place, artifact in self._finished_steps(way):
            if artifact.path != place:
                staging.publish(artifact.path, place)
            last = replace(artifact, path=place)
        return last
