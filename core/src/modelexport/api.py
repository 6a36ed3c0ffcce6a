"""The verbs as functions: what the command line calls, and what `import modelexport as mx` offers.

Each verb that writes ends with the parity gate, and its artifact appears in place only when it is finished.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from . import evidence, golden, manifest, narrow, pipeline, plan, plugins, quantization, snippets, staging, steps
from . import options as opts
from . import parity as gate
from . import source as sources
from .calibration import Calibration, open_calibration
from .errors import ArtifactError, MxError, OptionError, OutputError, ParityError, RuntimeFailure, SourceError
from .pipeline import Progress, silent
from .types import Artifact, Build, LoadOptions, Session, Source

#: how the progress line begins that says that a finished step is used again
REUSED = "reused"

# --------------------------------------------------------------------------------------- export


def export(
    source: Any,
    targets: Sequence[str] | str,
    out: str | os.PathLike[str] = "build",
    *,
    name: str | None = None,
    options: Mapping[str, Any] | None = None,
    inputs: Sequence[str] = (),
    dims: Sequence[str] = (),
    sample: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    task: str | None = None,
    register: Sequence[str] = (),
    snippet: Sequence[str] = (),
    tolerance: Mapping[str, float] | str | None = None,
    verify: bool = True,
    allow_pickle: bool = False,
    allow_download: bool = False,
    precision: str | None = None,
    calibration: Any = None,
    samples: int = 128,
    seed: int = 0,
    column: str | None = None,
    metric: str = "cosine",
    evaluate: Callable[[Session], float] | str | None = None,
    max_drop: float | None = None,
    progress: Progress = silent,
) -> tuple[Artifact, ...]:
    """Export `source` to every one of `targets`; returns their artifacts, `out/NAME.TARGET`, in that order.

    The model is captured once for all targets. `source` is a reference as on the command line, an
    `nn.Module` with `inputs` (or a `Source`). `options` are the targets' own, `key` or `target.key`; `dims` fix or
    narrow dynamic dims, `name=size` or `target.name=size`. `snippet` names languages to write code in that loads
    and runs the artifact, in its folder `snippets`, for the targets that have them.

    With `precision`, each is then optimized and quantized as its target does that, and `NAME.PRECISION.TARGET` is
    returned. Each step is an artifact beside it; one that is there already and was made from the same model, with
    the same options and tools, is reused. `calibration` and what follows are as in `quantize`; `tolerance` is the
    last step's.

    Raises a subclass of MxError; ParityError leaves the artifact as `NAME.TARGET.failed` for inspection.
    """
    names = [targets] if isinstance(targets, str) else list(dict.fromkeys(targets))
    tolerances = gate.parse_tolerance(tolerance) if isinstance(tolerance, str) else dict(tolerance or {})
    wish = evidence.Wish.read(metric, max_drop, evaluate)
    recipes = {target: plan.recipe(plugins.target(target).target, precision) for target in names}
    chosen = verb_options(recipes, options or {})
    _check_goal(recipes, precision, calibration is not None or wish != evidence.Wish())
    held = narrow.parse(dims, names)
    snippets.check(names, snippet)
    for target, recipe in recipes.items():
        for verb in recipe:
            plugins.require(target, verb)
    for module in register:
        sources.import_user_module(module)

    progress("load the model")
    load_options = LoadOptions(
        tuple(inputs), Path(weights) if weights else None, task, allow_pickle, allow_download
    )
    loaded = sources.resolve(source, load_options)
    if loaded.golden is not None and loaded.format in names:
        raise SourceError(f"{loaded.ref} is a {loaded.format} artifact already", "give another --target")
    makers = []
    for target, recipe in recipes.items():
        places = plan.places(list(recipe), Path(out), name or loaded.name, target, precision)
        for place in places.values():
            staging.check_place(place)
        formats = pipeline.chain(target, loaded.format)
        makers.append(_Chain(formats, places, chosen, tolerances, verify, progress, tuple(snippet)))

    progress("compute the reference")
    jobs = _prepare(loaded, held, Path(sample) if sample is not None else None, verify)
    read = partial(_read_calibration, ref=calibration, samples=samples, seed=seed, column=column)
    makers.sort(key=lambda maker: len(maker.formats))  # what others are made from comes first
    try:
        made = _make_all([partial(maker.make, jobs[maker.formats[-1]], wish, read) for maker in makers])
        return tuple(sorted(made, key=lambda artifact: names.index(artifact.format)))
    finally:
        for job in jobs.values():
            job.release()


def _prepare(
    loaded: Source, held: Mapping[str, narrow.Dims], sample: Path | None, verify: bool
) -> dict[str, pipeline.Prepared]:
    """Target → its job; those that hold the same dims have the same one. `held[""]` is for all."""
    every = held[""]
    if any(held.values()):
        pipeline.check_dims(loaded, held)
    if every and loaded.format == plan.MODULE and loaded.inputs:
        loaded, every = replace(loaded, inputs=narrow.specs(loaded.specs, every)), {}
    base = pipeline.narrowed(pipeline.prepare(loaded, sample, verify), every, sample, verify)
    made: list[tuple[narrow.Dims, pipeline.Prepared]] = [({}, base)]
    jobs = {}
    for target, dims in ((target, dims) for target, dims in held.items() if target):
        job = next((job for known, job in made if known == dims), None)
        if job is None:
            job = pipeline.narrowed(base, dims, sample, verify)
            made.append((dims, job))
        jobs[target] = job
    return jobs


def _check_goal(recipes: Mapping[str, Collection[str]], precision: str | None, given: bool) -> None:
    """Raise OptionError for calibration data or a goal that nothing would look at."""
    idle = [target for target, recipe in recipes.items() if "quantize" not in recipe]
    if given and precision is None:
        raise OptionError("calibration data and goals go with --precision", "add --precision, or use mx quantize")
    if given and idle:
        raise OptionError(
            f"target {idle[0]!r} does not quantize for {precision}: calibration data and goals do not apply",
            "leave them out",
        )


@dataclass(frozen=True)
class _Chain:
    """The steps to one target's artifact: the formats of the export, and the place of each verb's result."""

    formats: Sequence[str]
    places: Mapping[str, Path]
    options: Mapping[str, Mapping[str, Any]]
    tolerance: Mapping[str, float]
    verify: bool
    progress: Progress
    snippets: tuple[str, ...] = ()

    def make(
        self, job: pipeline.Prepared, wish: evidence.Wish, read: Callable[[Artifact], Calibration | None]
    ) -> Artifact:
        """Every step in turn; finished ones are reused where there are several."""
        made = self._export(job)
        given = read(made) if "quantize" in self.places else None
        for verb, place in list(self.places.items())[1:]:
            work = _job(verb, made.path, place, self.options[made.format][verb], self._checks(verb))
            made = (
                _optimized(work, reuse=True) if verb == "optimize" else _quantized(work, wish, given, reuse=True)
            )
        return made

    def _export(self, job: pipeline.Prepared) -> Artifact:
        final, checks = self.places["export"], self._checks("export")
        chosen = {name: of_verb["export"] for name, of_verb in self.options.items()}
        if len(self.places) > 1:
            found = steps.exported(job, self.formats, final, chosen, checks.tolerance)
            if found is not None and snippets.complete(found, self.snippets):
                return _reused(found, self.progress)
        return pipeline.make(job, self.formats, final, chosen, checks, self.snippets)

    def _checks(self, verb: str) -> pipeline.Gate:
        """The user's tolerance is for the result: the steps before it keep their own budgets."""
        last = verb == list(self.places)[-1]
        return pipeline.Gate(self.verify, self.tolerance if last else {}, self.progress)


def _reused(found: Artifact, progress: Progress) -> Artifact:
    progress(f"{REUSED} {found.path} (same model, options and tools)")
    return found


def _read_calibration(
    artifact: Artifact, ref: Any, samples: int, seed: int, column: str | None
) -> Calibration | None:
    if ref is None:
        return None
    return open_calibration(artifact, ref, samples=samples, seed=seed, column=column)


def _make_all(makers: Sequence[Callable[[], Artifact]]) -> tuple[Artifact, ...]:
    """Every target gets its turn, whatever happens to the others; then the first error is raised."""
    made: list[Artifact] = []
    errors: list[MxError] = []
    for make in makers:
        try:
            made.append(make())
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
    found = verb_options({name: {verb: {}} for name in targets}, values)
    return {name: of_verb[verb] for name, of_verb in found.items()}


def verb_options(
    recipes: Mapping[str, Mapping[str, Mapping[str, Any]]], values: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """As `target_options`, for several verbs: target → verb → options object; a key is for every verb that has it.

    `recipes` gives each target's verbs, and what holds for them where `values` says nothing else.
    """
    declared = {target: plugins.target(target).target.options for target in recipes}
    kinds = {
        target: {verb: declared[target].get(verb, opts.NoOptions) for verb in recipe}
        for target, recipe in recipes.items()
    }
    mine = {target: {verb: dict(given) for verb, given in recipe.items()} for target, recipe in recipes.items()}
    for key, value in values.items():
        prefix, dot, rest = key.partition(".")
        targets, own = ([prefix], rest) if dot and prefix in mine else (list(mine), key)
        takers = [
            (target, verb)
            for target in targets
            for verb, kind in kinds[target].items()
            if opts.key_of(own) in opts.keys(kind)
        ]
        if not takers:
            known = set().union(*(opts.keys(kind) for kind in kinds[targets[0]].values()))
            raise OptionError(f"target {targets[0]!r} has no option {own!r}", opts.suggest(own, sorted(known)))
        for target, verb in takers:
            mine[target][verb][own] = value
    return {
        target: {verb: opts.build(kinds[target][verb], given, f"target {target!r}") for verb, given in of.items()}
        for target, of in mine.items()
    }


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
    tolerances = gate.parse_tolerance(tolerance) if isinstance(tolerance, str) else dict(tolerance or {})
    return _optimized(_job("optimize", path, out, options or {}, pipeline.Gate(verify, tolerances, progress)))


def _optimized(job: _Job, reuse: bool = False) -> Artifact:
    origin = steps.origin(job.artifact)
    if reuse and (found := job.finished(origin)):
        return found
    job.checks.progress(f"optimize {job.artifact.path}")
    with staging.staged(job.final) as draft:
        build = plugins.call(job.plugin, "optimize", artifact=job.artifact, out=draft, options=job.options)
        result = job.copy(draft, build, origin)
        snippets.write(result, snippets.languages(job.artifact))
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
    tolerances = gate.parse_tolerance(tolerance) if isinstance(tolerance, str) else dict(tolerance or {})
    job = _job("quantize", path, out, options or {}, pipeline.Gate(verify, tolerances, progress))
    wish = evidence.Wish.read(metric, max_drop, evaluate)
    return _quantized(job, wish, _read_calibration(job.artifact, calibration, samples, seed, column))


def _quantized(job: _Job, wish: evidence.Wish, calibration: Calibration | None, reuse: bool = False) -> Artifact:
    if calibration is not None:
        job.checks.progress("read the calibration data")
    origin = steps.quantize_origin(job.artifact, calibration, wish)
    if reuse and (found := job.finished(origin)):
        return found
    with staging.staged(job.final) as draft:
        return _quantize_into(draft, job, evidence.gather(job.artifact, calibration), wish, origin)


def _quantize_into(
    draft: Path, job: _Job, data: evidence.Data, wish: evidence.Wish, origin: Mapping[str, Any]
) -> Artifact:
    artifact, progress = job.artifact, job.checks.progress
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
    snippets.write(result, snippets.languages(artifact))
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

    def finished(self, origin: Mapping[str, Any]) -> Artifact | None:
        """What is there already, if the work would only make it again."""
        before, checks = self.artifact.lineage, self.checks
        found = steps.finished(self.final, before, self.verb, self.plugin, self.options, origin, checks.tolerance)
        return None if found is None else _reused(found, checks.progress)

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
    options: Any,
    checks: pipeline.Gate,
) -> _Job:
    """`options` are texts (or ready values) by key, or an options object."""
    artifact = load(path)
    if verb == "quantize":
        _refuse_quantized(artifact)
    plugin = plugins.require(artifact.format, verb)
    if isinstance(options, Mapping):
        options = target_options([artifact.format], verb, options)[artifact.format]
    stem = artifact.path.name.removesuffix(f".{artifact.format}")
    final = Path(out) if out is not None else artifact.path.with_name(f"{stem}.{verb}d.{artifact.format}")
    if final.resolve() == artifact.path.resolve():
        raise OutputError(f"{final} is the artifact itself", "write the result elsewhere with -o")
    staging.check_place(final)
    return _Job(verb, artifact, plugin, options, final, checks)


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
