"""What each step of a lineage was made from, and whether a finished one can stand for the one that is wanted.

A step is reused when all that shapes its result is as it was: the verb and its options, the versions of the tools,
the contents of what it was made from, the budgets of its gate; for an export also the model's answers, computed
anew, since its code may have changed; for quantization also the calibration data and the goal.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__, golden, manifest, parity, plan, plugins
from . import options as opts
from .entrypoints import FilePoint
from .errors import ArtifactError
from .types import Artifact, Step

if TYPE_CHECKING:
    from .calibration import Calibration
    from .evidence import Wish
    from .pipeline import Prepared

# --------------------------------------------------------------------------------------- what is recorded


def fingerprint(artifact: Artifact) -> str:
    """The sha256 over the names and contents of an artifact's files; the manifest alone may differ."""
    digest = hashlib.sha256()
    for entry in artifact.files:
        digest.update(f"{entry.path} {entry.sha256}\n".encode())
    return digest.hexdigest()


def origin(artifact: Artifact) -> dict[str, Any]:
    """The lineage's record of the artifact that another one is made from."""
    return {"ref": str(artifact.path), "format": artifact.format, "fingerprint": fingerprint(artifact)}


def quantize_origin(artifact: Artifact, calibration: Calibration | None, wish: Wish) -> dict[str, Any]:
    """As `origin`, with the calibration data and the goal, which shape a quantized copy as much."""
    goal: dict[str, Any] = {"metric": wish.metric, "max_drop": wish.max_drop}
    if wish.evaluate is not None:
        goal["evaluate"] = _code(wish.evaluate)
    data = None if calibration is None else {"ref": calibration.ref, "fingerprint": calibration.fingerprint()}
    return {**origin(artifact), "calibration": data, "goal": goal}


def _code(function: Callable[..., Any]) -> dict[str, str | None]:
    """The name of the user's function, and the sha256 of the file it is in, where it is in one."""
    name = getattr(function, "__qualname__", type(function).__name__)
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        file = None
    return {"name": name, "sha256": manifest.sha256(Path(file)) if file and Path(file).is_file() else None}


def chosen(options: Any) -> dict[str, Any]:
    """Every option in force, by its key; a tuple as the list that it is read back as."""
    given = asdict(options) if is_dataclass(options) and not isinstance(options, type) else {}
    return {opts.key_of(key): list(value) if isinstance(value, tuple) else value for key, value in given.items()}


def own_tools(plugin: plugins.Plugin) -> dict[str, str]:
    """The versions that every step depends on."""
    return {"modelexport": __version__, plugin.entry.distribution: plugin.entry.version}


# --------------------------------------------------------------------------------------- what is reused


def finished(
    place: Path,
    before: Sequence[Step],
    verb: str,
    plugin: plugins.Plugin,
    options: Any,
    source: Mapping[str, Any],
    tolerance: Mapping[str, float],
) -> Artifact | None:
    """The artifact at `place`, if calling `plugin` for `verb` now would make the same one; else None.

    `before` is the lineage of what it would be made from, `source` the record of that.
    """
    found = _artifact(place)
    if found is None or len(found.lineage) != len(before) + 1:
        return None
    *earlier, last = found.lineage
    same = (
        _plain(earlier) == _plain(before)
        and _as_now(last, verb, plugin, options, source)
        and _known(source)
        and parity.gated_alike(found, tolerance)
    )
    return found if same else None


def _as_now(step: Step, verb: str, plugin: plugins.Plugin, options: Any, source: Mapping[str, Any]) -> bool:
    """Whether calling `plugin` for `verb` on `source` now would be the same step."""
    if isinstance(plugin.entry.point, FilePoint):
        return False  # a plugin in a file has no version to go by
    wanted = Step(verb, plugin.target.name, chosen(options), step.tools, _contents(source))
    done = Step(step.verb, step.target, step.options, step.tools, _contents(step.source))
    now = {**plugins.versions(list(step.tools)), **own_tools(plugin)}
    return bool(_plain(done) == _plain(wanted)) and now == dict(step.tools)


def exported(
    job: Prepared, formats: Sequence[str], final: Path, options: Mapping[str, Any], tolerance: Mapping[str, float]
) -> Artifact | None:
    """The artifact at `final`, if exporting the model again, by way of `formats`, would make the same one; else
    None. `options` are those of each format's export, where they are not the default ones.
    """
    from .pipeline import GOLDEN_BYTES, export_options

    steps = [plugins.target(name) for name in formats if name != plan.CAPTURED or name == formats[-1]]
    found = _artifact(final)
    own = job.source.lineage
    if found is None or _plain(found.lineage[: len(own)]) != _plain(own):
        return None
    made = found.lineage[len(own) :]
    if len(made) != len(steps) or not all(
        _as_now(step, "export", plugin, export_options(plugin, options), job.origin)
        for step, plugin in zip(made, steps, strict=True)
    ):
        return None
    if not _known(job.origin) or not parity.gated_alike(found, tolerance):
        return None
    if (found.inputs, found.outputs) != (job.described.specs, job.outputs):
        return None
    carried = {entry.path: entry.sha256 for entry in found.files if entry.path.startswith("processing/")}
    same = (
        _plain(found.processing) == _plain(job.source.processing)
        and carried == {name: manifest.sha256(path) for name, path in job.source.files.items()}
        and golden.same(golden.load(found.golden), golden.trim(job.golden, GOLDEN_BYTES))
    )
    return found if same else None


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
