"""`mx verify`: the gate again, on the machine where the artifact will run or against the model itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..contract import progress
from ..contract.artifacts import Artifact
from ..contract.parity import Parity
from ..contract.sources import LoadOptions
from ..errors import OptionError, OutputError, ParityError
from ..gate.golden import Golden
from ..gate.verify import verify_artifact
from ..model import resolve
from ..model.inputs import describe
from ..plugins import manager
from ..store import manifest, versions
from .prepare import reference_answers
from .requests import Verification


def verify(
    path: Path, source: Any, load: LoadOptions, values: Mapping[str, Any], verification: Verification
) -> Artifact:
    """The artifact at `path` with the result of its gate, which its manifest has too.

    `source` is the model to compare with; None for the artifact's golden data. `values` are run options by key.
    An artifact that is replaced meanwhile is verified again. Raises ParityError when the gate fails, OutputError
    when the manifest can't be updated.
    """
    if source is None and verification.sample is not None:
        raise OptionError("--sample needs --source: only the model itself can answer new inputs", "add --source")

    def checked() -> Artifact:
        artifact = manifest.read(path)
        parity = _gate(artifact, source, load, values, verification)
        if parity.verified == "structure" and artifact.parity.verified is True:
            return artifact  # another machine could run it, and found it right
        updated = replace(artifact, parity=parity)
        _record(artifact, updated)
        return updated

    result = versions.steady(path, checked)
    if result.parity.verified is False:
        raise ParityError(
            f"{path} does not compute what the source computes: {result.parity.reason}",
            "export the model again, or widen --tolerance",
        )
    return result


def _gate(
    artifact: Artifact, source: Any, load: LoadOptions, values: Mapping[str, Any], verification: Verification
) -> Parity:
    manager.require(artifact.format, "run")
    answers = None if source is None else _answers(artifact, source, load, verification)
    progress.stage(f"verify {artifact.format} in a fresh process")
    skipped = answers.skipped if answers else {}
    return verify_artifact(artifact, verification.tolerance, values, skipped, answers, verification.child)


def _record(artifact: Artifact, updated: Artifact) -> None:
    """Write the result into the manifest, unless another artifact stands there by now."""
    try:
        manifest.update(artifact, updated)
    except OSError as error:
        raise OutputError(
            f"the gate ran, but {artifact.path / manifest.NAME} can't be updated: {error.strerror}",
            "copy the artifact to a folder that you may write to",
        ) from error


def _answers(artifact: Artifact, source: Any, load: LoadOptions, verification: Verification) -> Golden:
    """The model's own answers, its inputs declared as the artifact has them where nothing else is said."""
    progress.stage("load the source")
    declared = load.inputs or tuple(str(spec) for spec in artifact.inputs)
    loaded = resolve.resolve(source, replace(load, inputs=declared))
    described = describe(replace(loaded, outputs=tuple(spec.name for spec in artifact.outputs)))
    progress.stage("compute the reference")
    return reference_answers(described, verification, described.specs)
