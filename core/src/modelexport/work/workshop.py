"""Every step of every way is made here, each once, in a hidden folder; results are put in place together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..contract import progress
from ..contract.artifacts import Artifact
from ..data.samples import Samples
from ..errors import ConversionError, MxError
from ..store import manifest, staging
from . import plan, reuse, transform
from .convert import Conversion
from .prepare import Prepared
from .requests import Verification
from .ways import Request, Way


@dataclass
class Workshop:
    """Makes the steps of every way in a hidden folder, each once, and puts the results in place at the end."""

    request: Request
    jobs: Mapping[str, Prepared]
    folders: ExitStack = field(default_factory=ExitStack)
    made: dict[tuple[int, tuple[str, ...]], Artifact] = field(default_factory=dict)
    failures: dict[str, MxError] = field(default_factory=dict)
    data: dict[Path, Samples | None] = field(default_factory=dict)

    def __enter__(self) -> Workshop:
        return self

    def __exit__(self, *_: object) -> None:
        self.folders.close()

    def make(self, way: Way) -> None:
        """Make every step of the way that stays. What goes wrong is kept until every target had its turn."""
        try:
            for index in range(len(way.steps)):
                if not way.on_the_way(index):
                    self._step(way, index)
        except MxError as error:
            self.failures[way.target] = error

    def _step(self, way: Way, index: int) -> Artifact:
        """The artifact of one step: made before, in place already, or made now."""
        key = (id(self.jobs[way.target]), tuple(step.key for step in way.steps[: index + 1]))
        if key not in self.made:
            self.made[key] = self._finished(way, index) or self._new(way, index)
        return self.made[key]

    def _before(self, way: Way, index: int) -> Artifact | None:
        """What the step is made from, where that is an artifact that is there already."""
        if index == 0:
            return None
        return self.made.get((id(self.jobs[way.target]), tuple(step.key for step in way.steps[:index])))

    def _finished(self, way: Way, index: int) -> Artifact | None:
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

    def _new(self, way: Way, index: int) -> Artifact:
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

    def _as_asked(self, way: Way, index: int, artifact: Artifact) -> Artifact:
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

    def _place_of(self, way: Way, index: int, source: Artifact) -> Path:
        """Where what a step is made from will be; what is on the way is named by where it came from."""
        return source.path if index < 0 else way.places[index]

    def _opened(self, artifact: Artifact) -> Samples | None:
        """The calibration data, opened for the artifact, and once for all that quantize it."""
        if artifact.path not in self.data:
            if self.request.judgement.data is not None:
                progress.stage("read the calibration data")
            self.data[artifact.path] = self.request.judgement.open(artifact)
        return self.data[artifact.path]

    def _verification(self, way: Way, index: int) -> Verification:
        """The user's tolerance is for the result and what it is compiled from; steps before have their budgets."""
        changing = [i for i, step in enumerate(way.steps) if step.planned.verb != "export"]
        if index >= max(changing, default=0):
            return self.request.verification
        return replace(self.request.verification, tolerance={})

    def _folder(self, way: Way) -> Path:
        return self.folders.enter_context(staging.workshop(way.places[-1]))

    # ----------------------------------------------------------------------------------- the end

    def deliver(self, ways: Sequence[Way]) -> tuple[Artifact, ...]:
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

    def _finished_steps(self, way: Way) -> list[tuple[Path, Artifact]]:
        """The place and the artifact of each step that stays, as far as they were made."""
        steps = []
        for index, place in enumerate(way.places):
            artifact = self._before(way, index + 1)
            if artifact is not None and not way.on_the_way(index):
                steps.append((place, artifact))
        return steps

    def _replaces_nothing(self, way: Way) -> bool:
        return all(place == artifact.path or not place.exists() for place, artifact in self._finished_steps(way))

    def _put(self, way: Way) -> Artifact | None:
        last = None
        for place, artifact in self._finished_steps(way):
            if artifact.path != place:
                staging.publish(artifact.path, place)
            last = replace(artifact, path=place)
        return last
