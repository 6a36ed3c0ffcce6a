"""Run the gate: a fresh process loads only the artifact, and answers every golden case twice."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..contract.artifacts import Artifact
from ..contract.parity import Parity
from ..errors import ArtifactError, CannotRunHere
from ..plugins import calls
from ..store import schema
from ..store.scratch import scratch
from . import golden, worker
from .compare import compare_all


def verify_artifact(
    artifact: Artifact,
    tolerance: Mapping[str, float] | None = None,
    options: Mapping[str, Any] | None = None,
    skipped: Mapping[str, str] | None = None,
    reference: golden.Golden | None = None,
    child: worker.Child | None = None,
) -> Parity:
    """Run the gate on `artifact` in a fresh process. The result says whether it passed; nothing is written.

    `reference` stands in for the artifact's own golden data; `child` is a process to use that is fresh enough:
    one that has done nothing but this. Raises RuntimeFailure when the runtime fails or takes its process down.
    """
    with scratch("verify") as folder:
        data = artifact.golden
        if reference is not None:
            data = folder / "golden.npz"
            golden.save(reference, data)
        job = {
            "job": "verify",
            "path": str(artifact.path.resolve()),
            "golden": str(data.resolve()),
            "manifest": schema.to_json(artifact),
            "tolerance": dict(tolerance or {}),
            "options": dict(options or {}),
        }
        with nullcontext(child) if child else worker.start(f"verifying {artifact.path}") as process:
            answer = process.ask(job)
    return replace(schema.parity_from_json(answer), skipped=dict(skipped or {}))


_STATE = (
    "; the source updates a buffer in its forward, so its second call may answer differently: "
    "the artifact must keep that state as well"
)


def verify_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """The fresh process's half: load the artifact, run the cases, compare."""
    artifact = schema.from_json(job["manifest"], Path(job["path"]))
    reference = golden.load(Path(job["golden"]))
    if not reference.cases:
        raise ArtifactError(f"{artifact.golden} holds no cases", "export the model again")
    environment = {"platform": platform.platform(), "machine": platform.machine()}
    names = tuple(case.name for case in reference.cases)
    try:
        session = calls.open_session(artifact, job["options"])
    except CannotRunHere as error:
        return schema.parity_to_json(Parity("structure", str(error), (), names, environment=environment))
    with session:
        compared = tuple(compare_all(session, reference.cases, artifact.precision, job["tolerance"]))
    wrong = [each for each in compared if not each.ok]
    reason = ""
    if wrong:
        stateful = any(case.again is not None for case in reference.cases)
        reason = str(max(wrong, key=lambda each: each.used)) + (_STATE if stateful else "")
    return schema.parity_to_json(Parity(not wrong, reason, compared, names, environment=environment))
