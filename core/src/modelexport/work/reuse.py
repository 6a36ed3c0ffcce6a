"""What each step of a lineage was made from, and whether a finished artifact can stand for the one that is wanted.

An artifact is used again when all that shapes it is as it was: every step's verb and options, the versions of the
tools, the budgets of its gate; for exports the model's weights and its answers, computed anew, since its code may
have changed; for quantization the calibration data and the goal. What a step was made from must be the same too
where it is there to be compared: a format on the way is made only if something needs it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..contract.artifacts import Artifact, Step
from ..contract.samples import Calibration
from ..errors import ArtifactError
from ..gate import budgets, golden
from ..plugins import calls, installed
from ..plugins.entrypoints import FilePoint
from ..plugins.manager import Plugin
from ..store import digests, manifest
from . import snippets
from .finish import GOLDEN_BYTES
from .prepare import Prepared
from .requests import Judgement

# --------------------------------------------------------------------------------------- what is recorded


def origin(
    artifact: Artifact,
    judgement: Judgement | None = None,
    data: Calibration | None = None,
    place: Path | None = None,
) -> dict[str, Any]:
    """The lineage's record of the artifact that another one is made from.

    For quantization, with the calibration data and the goal, which shape a copy as much. `place` is where the
    artifact will be, if it is still elsewhere.
    """
    record = digests.origin(artifact)
    if place is not None:
        record["ref"] = str(place)
    return record if judgement is None else record | _judged_by(judgement, data)


def _judged_by(judgement: Judgement, data: Calibration | None) -> dict[str, Any]:
    goal = judgement.goal
    wanted: dict[str, Any] = {"metric": goal.metric, "max_drop": goal.max_drop}
    if goal.evaluate is not None:
        wanted["evaluate"] = _code(goal.evaluate)
    drawn = None if data is None else {"ref": data.ref, "fingerprint": data.fingerprint()}
    return {"calibration": drawn, "goal": wanted}


def _code(function: Callable[..., Any]) -> dict[str, str | None]:
    """The name of the user's function, and the sha256 of the file it is in, where it is in one."""
    name = getattr(function, "__qualname__", type(function).__name__)
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        file = None
    return {"name": name, "sha256": digests.sha256(Path(file)) if file and Path(file).is_file() else None}


# --------------------------------------------------------------------------------------- what is reused


@dataclass(frozen=True)
class WantedStep:
    """One step of the artifact that is wanted: the call that would make it.

    `before` is what it would be made from, where that is an artifact and there.
    """

    verb: str
    plugin: Plugin
    options: Any
    before: Artifact | None = None


@dataclass(frozen=True)
class Wanted:
    """The artifact that is wanted: its whole lineage, on top of what the source brought with it."""

    job: Prepared
    steps: Sequence[WantedStep]
    judgement: Judgement
    tolerance: Mapping[str, float]
    languages: Sequence[str] = ()

    def find(self, place: Path) -> Artifact | None:
        """The artifact at `place`, if making the wanted one now would make the same; else None."""
        artifact = _artifact(place)
        own = self.job.source.lineage
        if artifact is None or _plain(artifact.lineage[: len(own)]) != _plain(own):
            return None
        done = artifact.lineage[len(own) :]
        if len(done) != len(self.steps) or not budgets.gated_alike(artifact, self.tolerance):
            return None
        alike = all(self._alike(step, wanted, artifact) for step, wanted in zip(done, self.steps, strict=True))
        return artifact if alike and self._from_this_model(artifact) else None

    def _alike(self, done: Step, wanted: WantedStep, artifact: Artifact) -> bool:
        """Whether calling the plugin now would be the same step."""
        if isinstance(wanted.plugin.entry.point, FilePoint):
            return False  # a plugin in a file has no version to go by
        now = {**installed.versions(list(done.tools)), **calls.own_tools(wanted.plugin)}
        target, options = wanted.plugin.target.name, calls.in_force(wanted.options)
        asked = Step(wanted.verb, target, options, now, _contents(self._origin(done, wanted, artifact)))
        if not _known(asked.source):
            return False
        return bool(_plain(replace(done, source=_contents(done.source))) == _plain(asked))

    def _origin(self, done: Step, wanted: WantedStep, artifact: Artifact) -> dict[str, Any]:
        """What the step would be recorded to be made from."""
        if wanted.verb == "export":
            return dict(self.job.origin)
        base = {key: done.source.get(key) for key in ("format", "fingerprint")}
        if wanted.before is not None:
            base = digests.origin(wanted.before)
        if wanted.verb != "quantize":
            return base
        # The artifact itself has the inputs and the tokenizer that the data is made for.
        return base | _judged_by(self.judgement, self.judgement.open(artifact))

    def _from_this_model(self, artifact: Artifact) -> bool:
        """Whether inputs, outputs, processing and answers are those of the model as it is now."""
        job = self.job
        if (artifact.inputs, artifact.outputs) != (job.described.specs, job.outputs):
            return False
        carried = {entry.path: entry.sha256 for entry in artifact.files if entry.path.startswith("processing/")}
        return (
            _plain(artifact.processing) == _plain(job.source.processing)
            and carried == {name: digests.sha256(path) for name, path in job.source.files.items()}
            and self._same_answers(artifact)
            and snippets.complete(artifact, self.languages)
        )

    def _same_answers(self, artifact: Artifact) -> bool:
        """Its golden data is the model's; a quantized copy has real samples in it, and may lack random ones."""
        kept, now = golden.load(artifact.golden), golden.trim(self.job.golden, GOLDEN_BYTES)
        if not any(step.verb == "quantize" for step in self.steps):
            return golden.same(kept, now)
        shared = {case.name for case in now.cases} & {
            case.name for case in kept.cases if case.origin != "calibration"
        }
        one, other = (
            replace(each, cases=tuple(case for case in each.cases if case.name in shared)) for each in (kept, now)
        )
        return golden.same(one, other)


def _artifact(place: Path) -> Artifact | None:
    if not (place / manifest.NAME).is_file():
        return None
    try:
        return manifest.read(place)
    except ArtifactError:
        return None  # a damaged one is made again


def _contents(source: Mapping[str, Any]) -> dict[str, Any]:
    """A record of a source without the places where things were found: contents are what counts."""
    return {
        key: {k: v for k, v in value.items() if k != "ref"} if isinstance(value, Mapping) else value
        for key, value in source.items()
        if key != "ref"
    }


def _known(source: Mapping[str, Any]) -> bool:
    """Whether the record pins down what the step was made from: the weights, and the user's own score."""
    code = source.get("goal", {}).get("evaluate", {"sha256": "none is used"})
    return source.get("fingerprint") is not None and code["sha256"] is not None


def _plain(value: Any) -> Any:
    """As it would be read from a manifest."""
    return json.loads(json.dumps(value, default=asdict))
