"""One format made from another: a call of `mx_export`, finished with the gate."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contract import progress
from ..contract.artifacts import Artifact, Build
from ..contract.sources import Captured, Source
from ..contract.target import CAPTURED, MODULE
from ..gate import cases, golden
from ..model import reference
from ..plugins import calls, manager
from ..store import manifest, staging, versions
from . import plan, snippets
from .finish import carry, finish, lineage_step
from .prepare import Prepared, answers_to
from .requests import Verification


@dataclass(frozen=True)
class Conversion:
    """What one call of `mx_export` is about. `given` is another target's artifact; without it, the source itself.

    `languages` are those of snippets that the user asked for, `failed` is where the artifact goes that falls
    short.
    """

    job: Prepared
    plugin: manager.Plugin
    options: Any
    given: Artifact | None = None
    languages: Sequence[str] = ()
    failed: Path | None = None

    def make(self, final: Path, verification: Verification) -> Artifact:
        """Write the artifact to `final`. Raises what the plugin raises, and ParityError when the gate fails."""
        job, plugin = self.job, self.plugin
        with reference.eval_mode(job.source), ExitStack() as stack:
            taken = self._taken()
            lock = stack.enter_context(versions.reading(taken.path)) if isinstance(taken, Artifact) else None
            progress.stage(f"convert to {plugin.target.name}")
            if plugin.target.mutates:
                taken = copy.deepcopy(taken)
            with staging.staged(final) as draft:
                build = calls.call(plugin, "export", source=taken, out=draft, options=self.options)
                carry(job.source.files, draft)
                artifact = self._artifact(draft, build, taken)
                snippets.write(artifact, self.languages)
                if lock is not None:
                    versions.check(lock)
                return finish(artifact, final, self._answers(build, taken), verification, failed=self.failed)

    def _taken(self) -> Source | Captured | Artifact:
        """What the hook is given: in a format that the target consumes."""
        if self.given is not None:
            return self.given
        source, name = self.job.source, self.plugin.target.name
        if source.format == CAPTURED or name == CAPTURED:
            return self.job.captured()
        if source.format == MODULE:
            return source if MODULE in self.plugin.target.consumes else self.job.captured()
        if source.path is not None and manifest.is_in(source.path):
            return manifest.read(source.path)
        return source

    def _artifact(self, draft: Path, build: Build, taken: Source | Captured | Artifact) -> Artifact:
        job, before = self.job, taken if isinstance(taken, Artifact) else None
        step = lineage_step("export", self.plugin, build, self.options, job.origin)
        return Artifact(
            draft,
            self.plugin.target.name,
            build.entry,
            job.described.specs,
            job.outputs,
            build.precision or (before.precision if before else "float32"),
            (*(before.lineage if before else job.source.lineage), step),
            processing=job.source.processing,
            details=build.details,
            notes=build.notes,
            quantization=build.quantization or (before.quantization if before else None),
            layers=build.layers,
            stand_in=build.stand_in,
        )

    def _answers(self, build: Build, taken: Source | Captured | Artifact) -> golden.Golden:
        """What the artifact is held against: the source's own answers, unless they say nothing about it.

        Where ranges of activations were taken from real data, random inputs show saturation only. An artifact that
        is made of a quantized one is held against the cases of that one; where the build names real samples,
        against the source's answers to these.
        """
        job = self.job
        if isinstance(taken, Artifact) and any(step.verb == "quantize" for step in taken.lineage):
            kept = golden.load(taken.golden)
            return golden.Golden(kept.cases, dict(taken.parity.skipped))
        if not build.samples:
            return job.golden
        drawn = [
            cases.Case(f"calibration {index}", sample, origin="calibration")
            for index, sample in enumerate(build.samples)
        ]
        real = answers_to(job.described, drawn)
        left_out = {case.name: golden.RANDOM for case in job.golden.cases if not case.is_real}
        kept_cases = [case for case in job.golden.cases if case.name not in left_out]
        return golden.Golden((*kept_cases, *real.cases), {**job.golden.skipped, **left_out})


def make(
    job: Prepared, target: str, final: Path, verification: Verification, values: Mapping[str, Any] | None = None
) -> Artifact:
    """Make one target's artifact of a prepared source at `final`, by way of the formats that lead to it.

    `values` are the target's options by key.
    """
    steps = plan.route(target, None, job.source.format, lambda name: manager.target(name).target).steps
    before: Artifact | None = None
    with staging.workshop(final) as folder:
        for step in steps:
            last = step == steps[-1]
            options = calls.options_for(step.target, "export", (values or {}) if last else {})
            conversion = Conversion(job, manager.require(step.target, "export"), options, before)
            before = conversion.make(final if last else folder / f"{final.stem}.{step.target}", verification)
    assert before is not None
    return before
