"""The verbs as functions: what the command line calls, and what `import modelexport as mx` offers.

Each verb that writes ends with the parity gate, and its artifact appears in place only when it is finished.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import evidence, golden, manifest, pipeline, plugins, quantization, staging, steps
from . import options as opts
from . import parity as gate
from . import source as sources
from .calibration import Calibration, open_calibration
from .errors import ArtifactError, MxError, OptionError, OutputError, ParityError, RuntimeFailure, SourceError
from .pipeline import Progress, silent
from .types import Artifact, Build, LoadOptions, Session

# --------------------------------------------------------------------------------------- export


def export(
    source: Any,
    targets: Sequence[str] | str,
    out: str | os.PathLike[str] = "build",
    *,
    name: str | None = None,
    options: Mapping[str, Any] | None = None,
    inputs: Sequence[str] = (),
    sample: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    task: str | None = None,
    register: Sequence[str] = (),
    tolerance: Mapping[str, float] | str | None = None,
    verify: bool = True,
    allow_pickle: bool = False,
    allow_download: bool = False,
    progress: Progress = silent,
) -> tuple[Artifact, ...]:
    """Export `source` to every one of `targets`; returns their artifacts, `out/NAME.TARGET`, in that order.

    The model is captured once for all targets. `source` is a reference as on the command line, an
    `nn.Module` with `inputs` (or a `Source`). `options` are the targets' own, `key` or `target.key`.
    Raises a subclass of MxError; ParityError leaves the artifact as `NAME.TARGET.failed` for inspection.
    """
    names = [targets] if isinstance(targets, str) else list(dict.fromkeys(targets))
    tolerances = gate.parse_tolerance(tolerance) if isinstance(tolerance, str) else dict(tolerance or {})
    chosen = target_options(names, "export", options or {})
    for target in names:
        plugins.require(target, "export")
    for module in register:
        sources.import_user_module(module)

    progress("load the model")
    load_options = LoadOptions(
        tuple(inputs), Path(weights) if weights else None, task, allow_pickle, allow_download
    )
    loaded = sources.resolve(source, load_options)
    if loaded.golden is not None and loaded.format in names:
        raise SourceError(f"{loaded.ref} is a {loaded.format} artifact already", "give another --target")
    stem = name or loaded.name
    finals = [Path(out) / f"{stem}.{target}" for target in names]
    chains = [pipeline.chain(target, loaded.format) for target in names]
    for final in finals:
        staging.check_place(final)

    progress("compute the reference")
    job = pipeline.prepare(loaded, Path(sample) if sample is not None else None, verify)
    checks = pipeline.Gate(verify, tolerances, progress)
    return _make_all(job, dict(zip(finals, chains, strict=True)), chosen, checks)


def _make_all(
    job: pipeline.Prepared,
    chains: Mapping[Path, Sequence[str]],
    chosen: Mapping[str, Any],
    checks: pipeline.Gate,
) -> tuple[Artifact, ...]:
    """Every target gets its turn, whatever happens to the others; then the first error is raised."""
    made: list[Artifact] = []
    errors: list[MxError] = []
    for final, formats in chains.items():
        try:
            made.append(pipeline.make(job, formats, final, chosen, checks))
        except MxError as error:
            errors.append(error)
    if errors:
        first, *others = errors
        if others:
            first.message += "; also " + "; ".join(error.message for error in others)
        raise first
    return tuple(made)


# --------------------------------------------------------------------------------------- options


def target_options(targets: Sequence[str], verb: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Each target's options object from `key=value` (for every target that has it) and `target.key=value`.

    Raises OptionError for a key that no target has, TargetError for an unknown target.
    """
    loaded = {name: plugins.target(name) for name in targets}
    kinds = {name: plugin.target.options.get(verb, opts.NoOptions) for name, plugin in loaded.items()}
    mine: dict[str, dict[str, Any]] = {name: {} for name in targets}
    for key, value in values.items():
        prefix, dot, rest = key.partition(".")
        if dot and prefix in mine:
            mine[prefix][rest] = value
            continue
        takers = [name for name, kind in kinds.items() if opts.key_of(key) in opts.keys(kind)] or list(targets)
        for name in takers:
            mine[name][key] = value
    return {name: opts.build(kinds[name], mine[name], f"target {name!r}") for name in targets}


# --------------------------------------------------------------------------------------- run, verify


def load(path: str | os.PathLike[str]) -> Artifact:
    """The artifact at `path`, after checking the sha256 of its files. Raises ArtifactError."""
    return manifest.read(path)


def run(path: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Session:
    """Load an artifact and return its Session; use it as a context manager.

    >>> with run("build/model.onnx") as session:        # doctest: +SKIP
    ...     outputs = session({"x": array})
    """
    return open_session(load(path), options or {})


def open_session(artifact: Artifact, options: Mapping[str, Any]) -> Session:
    plugin = plugins.require(artifact.format, "run")
    chosen = target_options([artifact.format], "run", options)[artifact.format]
    session = plugins.call(plugin, "run", artifact=artifact, options=chosen)
    if not isinstance(session, Session):
        raise RuntimeFailure(
            f"target {artifact.format!r} returned no session", "report it to the plugin's authors"
        )
    return session


def verify(
    path: str | os.PathLike[str],
    *,
    source: Any = None,
    sample: str | os.PathLike[str] | None = None,
    tolerance: Mapping[str, float] | str | None = None,
    options: Mapping[str, Any] | None = None,
    inputs: Sequence[str] = (),
    weights: str | os.PathLike[str] | None = None,
    task: str | None = None,
    allow_pickle: bool = False,
    allow_download: bool = False,
    progress: Progress = silent,
) -> Artifact:
    """Run the parity gate on an artifact again, against its golden data or, with `source`, the model itself.

    The manifest is updated with the result, which is in `Artifact.parity` of the one returned.
    Raises ParityError when the gate fails: the manifest then says `"verified": false`.
    """
    artifact = load(path)
    plugins.require(artifact.format, "run")
    tolerances = gate.parse_tolerance(tolerance) if isinstance(tolerance, str) else dict(tolerance or {})
    answers: golden.Golden | None = None
    if source is not None:
        progress("load the source")
        declared = tuple(inputs) or tuple(str(spec) for spec in artifact.inputs)
        given = LoadOptions(declared, Path(weights) if weights else None, task, allow_pickle, allow_download)
        loaded = sources.resolve(source, given)
        loaded = replace(loaded, outputs=tuple(spec.name for spec in artifact.outputs))
        progress("compute the reference")
        answers = pipeline.reference(sources.describe(loaded), Path(sample) if sample else None, full=True)
    elif sample is not None:
        raise OptionError("--sample needs --source: only the model itself can answer new inputs", "add --source")
    progress(f"verify {artifact.format} in a fresh process")
    parity = gate.verify(artifact, tolerances, options, answers.skipped if answers else {}, answers)
    if parity.verified == "structure" and artifact.parity.verified is True:
        return artifact  # another machine could run it, and found it right
    updated = replace(artifact, parity=parity)
    try:
        manifest.write(updated)
    except OSError as error:
        raise OutputError(
            f"the gate ran, but {artifact.path / manifest.NAME} can't be updated: {error.strerror}",
            "copy the artifact to a folder that you may write to",
        ) from error
    if parity.verified is False:
        raise ParityError(
            f"{artifact.path} does not compute what the source computes: {parity.reason}",
            "export the model again, or widen --tolerance",
        )
    return updated


# --------------------------------------------------------------------------------------- optimize, quantize


def optimize(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    tolerance: Mapping[str, float] | str | None = None,
    verify: bool = True,
    progress: Progress = silent,
) -> Artifact:
    """Write an optimized copy of an artifact to `out` (default: beside it); it passes the same gate.

    Raises a subclass of MxError; ParityError leaves the copy as `OUT.failed` for inspection.
    """
    job = _job("optimize", path, out, options, tolerance, verify, progress)
    progress(f"optimize {job.artifact.path}")
    with staging.staged(job.final) as draft:
        build = plugins.call(job.plugin, "optimize", artifact=job.artifact, out=draft, options=job.options)
        result = job.copy(draft, build, steps.origin(job.artifact))
        return pipeline.finish(result, job.final, golden.load(job.artifact.golden), job.checks)


def quantize(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    calibration: Any = None,
    samples: int = 128,
    seed: int = 0,
    column: str | None = None,
    metric: str = "cosine",
    evaluate: Callable[[Session], float] | str | None = None,
    max_drop: float | None = None,
    tolerance: Mapping[str, float] | str | None = None,
    verify: bool = True,
    progress: Progress = silent,
) -> Artifact:
    """Write a quantized copy of an artifact to `out` (default: beside it); it passes its precision's gate.

    `calibration` is real data, as `calibration.open_calibration` takes it: a quarter of it is held out to judge
    the copy on, by `metric`, or by `evaluate`, a function of a Session. What was lost, and all that was done, is
    in `details["quantization"]` of the artifact returned, a `quantization.Report` as JSON.

    Raises a subclass of MxError; ParityError, when the copy fails the gate or loses more than `max_drop`, leaves
    it as `OUT.failed` for inspection.
    """
    job = _job("quantize", path, out, options, tolerance, verify, progress)
    _refuse_quantized(job.artifact)
    wish = evidence.Wish.read(metric, max_drop, evaluate)
    given = None
    if calibration is not None:
        progress("read the calibration data")
        given = open_calibration(job.artifact, calibration, samples=samples, seed=seed, column=column)
    with staging.staged(job.final) as draft:
        return _quantize(job, draft, evidence.gather(job.artifact, given), wish, given)


def _quantize(
    job: _Job, draft: Path, data: evidence.Data, wish: evidence.Wish, calibration: Calibration | None
) -> Artifact:
    artifact, progress = job.artifact, job.checks.progress
    origin = steps.quantize_origin(artifact, calibration, wish)
    with evidence.judged(artifact, data, wish) as judge:
        progress(f"quantize {artifact.path}")
        build = plugins.call(
            job.plugin, "quantize", artifact=artifact, out=draft, options=job.options,
            calibration=data.calibration, goal=judge and judge.goal,
        )  # fmt: skip
        result = job.copy(draft, build, origin)
        report = quantization.report_in(build, job.options)
        if judge is not None:
            progress("measure what was lost")
            report = replace(report, score=evidence.score(judge, result))
        answers, warnings = evidence.gate_cases(artifact, data, judge, report.calibrated)
    report = replace(report, warnings=(*report.warnings, *data.notes, *warnings))
    result = replace(result, details={**result.details, "quantization": report.to_json()})
    return pipeline.finish(result, job.final, answers, job.checks, evidence.shortfall(report))


def _refuse_quantized(artifact: Artifact) -> None:
    done = next((step for step in artifact.lineage if step.verb == "quantize"), None)
    if done is not None:
        made_from = done.source.get("ref", "another one")
        raise ArtifactError(
            f"{artifact.path} is quantized already: it is {artifact.precision}, made from {made_from}",
            "quantize that one, with the options you want",
        )


@dataclass(frozen=True)
class _Job:
    """A verb that makes an artifact from another: everything checked that can be before the work begins."""

    verb: str
    artifact: Artifact
    plugin: plugins.Plugin
    options: Any
    final: Path
    checks: pipeline.Gate

    def copy(self, draft: Path, build: Build, origin: Mapping[str, Any]) -> Artifact:
        """The artifact that `build` wrote into `draft`, with all that a copy keeps."""
        artifact = self.artifact
        carried = {e.path: artifact.path / e.path for e in artifact.files if e.path.startswith("processing/")}
        pipeline.carry(carried, draft)
        step = pipeline.lineage_step(self.verb, self.plugin, build, self.options, origin)
        return replace(
            artifact, path=draft, entry=build.entry, precision=build.precision,
            lineage=(*artifact.lineage, step), details={**artifact.details, **build.details},
        )  # fmt: skip


def _job(
    verb: str,
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None,
    options: Mapping[str, Any] | None,
    tolerance: Mapping[str, float] | str | None,
    verify: bool,
    progress: Progress,
) -> _Job:
    artifact = load(path)
    plugin = plugins.require(artifact.format, verb)
    chosen = target_options([artifact.format], verb, options or {})[artifact.format]
    stem = artifact.path.name.removesuffix(f".{artifact.format}")
    final = Path(out) if out is not None else artifact.path.with_name(f"{stem}.{verb}d.{artifact.format}")
    if final.resolve() == artifact.path.resolve():
        raise OutputError(f"{final} is the artifact itself", "write the result elsewhere with -o")
    staging.check_place(final)
    tolerances = gate.parse_tolerance(tolerance) if isinstance(tolerance, str) else dict(tolerance or {})
    return _Job(verb, artifact, plugin, chosen, final, pipeline.Gate(verify, tolerances, progress))


# --------------------------------------------------------------------------------------- benchmark


def benchmark(paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str], **keywords: Any) -> Any:
    """Time artifacts, and a baseline, against each other: see `modelexport.bench.benchmark`."""
    from . import bench

    listed = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    return bench.benchmark(listed, **keywords)


__all__ = [
    "benchmark",
    "export",
    "load",
    "open_session",
    "optimize",
    "quantize",
    "run",
    "verify",
]
