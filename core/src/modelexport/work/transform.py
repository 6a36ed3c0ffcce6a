"""One artifact made from another of the same target: a call of `mx_optimize` or `mx_quantize`, and the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..accuracy import golden_cases, judge
from ..contract import progress
from ..contract.artifacts import Artifact, Build
from ..contract.quantization import QuantizationReport
from ..contract.samples import Calibration
from ..errors import ArtifactError, OutputError, ParityError
from ..gate import golden
from ..plugins import calls, manager
from ..regular import check_path
from ..store import staging, versions
from . import reuse, snippets
from .finish import carry, finish, lineage_step
from .requests import Judgement, Verification


@dataclass(frozen=True)
class Transformation:
    """A verb that makes an artifact from another: everything checked that can be before the work begins.

    `origin` is the lineage's record of what it is made from.
    """

    verb: str
    artifact: Artifact
    plugin: manager.Plugin
    options: Any
    origin: Mapping[str, Any]

    def make(
        self,
        final: Path,
        judgement: Judgement,
        data: Calibration | None,
        verification: Verification,
        failed: Path | None = None,
    ) -> Artifact:
        """Write the result to `final`. `data` is the judgement's, opened for the artifact.

        Raises what the plugin raises, and ParityError when the gate fails or the copy lost more than it may.
        """
        with versions.reading(self.artifact.path) as lock, staging.staged(final) as draft:
            if self.verb == "quantize":
                answers, result, refusal = self._quantized(draft, judgement, data)
            else:
                answers, result, refusal = self._optimized(draft)
            snippets.write(result, snippets.languages(self.artifact))
            versions.check(lock)
            return finish(result, final, answers, verification, refusal, failed)

    def _optimized(self, draft: Path) -> tuple[golden.Golden, Artifact, ParityError | None]:
        progress.stage(f"optimize {self.artifact.path}")
        build = calls.call(self.plugin, "optimize", artifact=self.artifact, out=draft, options=self.options)
        return golden.load(self.artifact.golden), self._copy(draft, build), None

    def _quantized(
        self, draft: Path, judgement: Judgement, calibration: Calibration | None
    ) -> tuple[golden.Golden, Artifact, ParityError | None]:
        """The copy's golden data, the copy with the account of it, and the error where it lost too much."""
        artifact, data = self.artifact, judge.split_data(self.artifact, calibration)
        with judge.judged(artifact, data, judgement.goal) as judging:
            progress.stage(f"quantize {artifact.path}")
            build = calls.call(
                self.plugin, "quantize", artifact=artifact, out=draft, options=self.options,
                calibration=data.calibration, goal=judging and judging.goal,
            )  # fmt: skip
            result = self._copy(draft, build)
            report = build.quantization or self._bare_report(result)
            if judging is not None:
                progress.stage("measure what was lost")
                report = replace(report, score=judge.score(judging, result))
            answers, warnings = golden_cases.gate_cases(artifact, data, judging, report.calibrated)
        report = replace(report, warnings=(*report.warnings, *data.notes, *warnings))
        return answers, replace(result, quantization=report), judge.shortfall(report)

    def _bare_report(self, result: Artifact) -> QuantizationReport:
        """The account of a target that returned none."""
        return QuantizationReport(str(getattr(self.options, "mode", result.precision)))

    def _copy(self, draft: Path, build: Build) -> Artifact:
        """The artifact that `build` wrote into `draft`, with all that a copy keeps."""
        before = self.artifact
        carry({e.path: before.path / e.path for e in before.files if e.path.startswith("processing/")}, draft)
        return replace(
            before,
            path=draft,
            entry=build.entry,
            precision=build.precision or before.precision,
            lineage=(*before.lineage, lineage_step(self.verb, self.plugin, build, self.options, self.origin)),
            details={**before.details, **build.details},
            notes=build.notes or before.notes,
            layers=build.layers or before.layers,
            stand_in=build.stand_in or before.stand_in,
        )


def refuse_quantized(artifact: Artifact) -> None:
    """Raise ArtifactError for an artifact that is quantized already."""
    done = next((step for step in artifact.lineage if step.verb == "quantize"), None)
    if done is not None:
        made_from = done.source.get("ref", "another one")
        raise ArtifactError(
            f"{artifact.path} is quantized already: it is {artifact.precision}, made from {made_from}",
            "quantize that one, with the options you want",
        )


def beside(artifact: Artifact, verb: str, out: Path | None) -> Path:
    """Where the result of a verb goes: `out`, or beside the artifact. Raises OutputError where it can't."""
    stem = artifact.path.name.removesuffix(f".{artifact.format}")
    final = out if out is not None else artifact.path.with_name(f"{stem}.{verb}d.{artifact.format}")
    check_path(final, OutputError)
    if final.resolve() == artifact.path.resolve():
        raise OutputError(f"{final} is the artifact itself", "write the result elsewhere with -o")
    staging.check_place(final)
    return final


def optimize(
    artifact: Artifact, out: Path | None, values: Mapping[str, Any], verification: Verification
) -> Artifact:
    """Write an optimized copy of the artifact to `out`, or beside it."""
    plugin = manager.require(artifact.format, "optimize")
    options, final = calls.options_for(artifact.format, "optimize", values), beside(artifact, "optimize", out)
    calls.check(plugin, {"optimize": options}, None, None, calibrated=False)
    work = Transformation("optimize", artifact, plugin, options, reuse.origin(artifact))
    return work.make(final, Judgement(), None, verification)


def quantize(
    artifact: Artifact,
    out: Path | None,
    values: Mapping[str, Any],
    judgement: Judgement,
    verification: Verification,
) -> Artifact:
    """Write a quantized copy of the artifact to `out`, or beside it."""
    refuse_quantized(artifact)
    plugin = manager.require(artifact.format, "quantize")
    options, final = calls.options_for(artifact.format, "quantize", values), beside(artifact, "quantize", out)
    calls.check(plugin, {"quantize": options}, None, None, judgement.data is not None)
    if judgement.data is not None:
        progress.stage("read the calibration data")
    data = judgement.open(artifact)
    work = Transformation("quantize", artifact, plugin, options, reuse.origin(artifact, judgement, data))
    return work.make(final, judgement, data, verification)
