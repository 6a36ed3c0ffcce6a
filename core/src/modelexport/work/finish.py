"""The end of every step: golden data, the gate, the manifest, and the artifact in place."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..contract import progress
from ..contract.artifacts import Artifact, Build, Step
from ..contract.options import FILE_ACCESS, option_keys
from ..contract.parity import Parity
from ..errors import ArtifactError, ParityError, TargetError
from ..gate import golden, verify
from ..gate.budgets import BUDGETS
from ..plugins import calls, installed
from ..plugins.manager import Plugin
from ..store import manifest, schema, staging
from .requests import Verification

#: golden data kept in an artifact, at most; the gate itself always sees every case
GOLDEN_BYTES = 64 << 20


def finish(
    artifact: Artifact,
    final: Path,
    answers: golden.Golden,
    verification: Verification,
    refusal: ParityError | None = None,
    failed: Path | None = None,
) -> Artifact:
    """Write golden data, run the gate, write the manifest and put the artifact at `final`.

    Raises ParityError when the gate fails, and `refusal`, a reason to fail that was found before; the artifact
    is then at `failed`, `FINAL.failed` by default. Raises TargetError for a precision without a budget, and for
    what no manifest can say.
    """
    draft = artifact.path
    _check_precision(artifact)
    _check_said(artifact)
    golden.save(answers, artifact.golden)
    if verification.enabled:
        progress.stage(f"verify {artifact.format} in a fresh process")
        parity = verify.verify_artifact(
            artifact, verification.tolerance, _allowed(artifact), answers.skipped, child=verification.child
        )
    else:
        parity = Parity(False, "not verified: --no-verify", skipped=answers.skipped)
    kept = golden.trim(answers, GOLDEN_BYTES)
    if len(kept.cases) < len(answers.cases):
        golden.save(kept, artifact.golden)
    falls_short = refusal is not None or (verification.enabled and parity.verified is False)
    if refusal is not None:
        parity = replace(parity, verified=False, reason=parity.reason or refusal.message)
    artifact = replace(artifact, parity=parity, files=manifest.list_files(draft))
    place = (failed or staging.failed_place(final)) if falls_short else final
    with staging.output_errors(place):
        manifest.write(artifact)
    staging.publish(draft, place)
    if refusal is not None:
        refusal.hint = f"look at {place}; {refusal.hint}"
        raise refusal
    if falls_short:
        raise ParityError(
            f"{artifact.format} does not compute what the source computes: {parity.reason}",
            f"look at {place}; a wider --tolerance or --no-verify are the ways round",
        )
    return replace(artifact, path=place)


def _allowed(artifact: Artifact) -> dict[str, Any]:
    """The run options of the gate: what the step that made the artifact was allowed, where the runtime asks."""
    if not artifact.lineage or not artifact.lineage[-1].options.get(FILE_ACCESS):
        return {}
    return {FILE_ACCESS: True} if FILE_ACCESS in option_keys(calls.VerbCall(artifact.format, "run").kind) else {}


def _check_precision(artifact: Artifact) -> None:
    """Raise TargetError for a precision without a budget: the gate would judge it by one that is not its own."""
    if artifact.precision not in BUDGETS:
        raise TargetError(
            f"target {artifact.format!r} wrote {artifact.precision!r}, for which there is no parity budget",
            f"Build.precision is one of {', '.join(BUDGETS)}",
        )


def _check_said(artifact: Artifact) -> None:
    """Raise TargetError for an artifact whose manifest couldn't be read again."""
    try:
        schema.from_json(schema.to_json(artifact), artifact.path)
    except ArtifactError as error:
        cause = error.__cause__ or error.message
        raise TargetError(
            f"what is to be written of the {artifact.format} artifact can't be: {cause}",
            "rename it in the model where it is a name of the model's, else report it to the plugin's authors",
        ) from error


def carry(files: Mapping[str, Path], draft: Path) -> None:
    """Copy files into an artifact under their names there."""
    for name, path in files.items():
        place = draft / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def lineage_step(verb: str, plugin: Plugin, build: Build, options: Any, origin: Mapping[str, Any]) -> Step:
    """The lineage's record of one call of a plugin."""
    tools = {**calls.own_tools(plugin), **installed.versions(build.tools)}
    return Step(verb, plugin.target.name, calls.in_force(options), tools, origin)
