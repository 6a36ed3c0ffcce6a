"""The verbs as functions: what the command line calls, and what `import modelexport as mx` offers.

Each verb that writes ends with the parity gate, and its artifact appears in place only when it is finished.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

from . import __version__, cases, golden, manifest, plan, plugins, staging
from . import capture as capturing
from . import options as opts
from . import parity as gate
from . import source as sources
from .errors import OptionError, OutputError, ParityError, RuntimeFailure, SourceError, TargetError
from .types import (
    Artifact,
    Build,
    Captured,
    LoadOptions,
    Parity,
    Session,
    Source,
    Step,
    TensorSpec,
)

#: called with one line as each stage of long work begins
Progress = Callable[[str], None]

#: golden data kept in an artifact, at most; the gate itself always sees every case
GOLDEN_BYTES = 64 << 20


def _silent(_: str) -> None:
    pass


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
    progress: Progress = _silent,
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
    chains = [plan.chain(target, loaded.format, _consumes) for target in names]
    for final in finals:
        staging.check_place(final)

    from .torchref import eval_mode

    with eval_mode(loaded):
        described = sources.describe(loaded)
        progress("compute the reference")
        reference = _reference(described, sample, verify)
        job = _Job(
            described,
            reference,
            golden.output_specs(reference, described.specs),
            verify,
            tolerances,
            progress,
            _origin(loaded),
        )
        return tuple(_export_chain(job, chain, final, chosen) for chain, final in zip(chains, finals, strict=True))


@dataclass
class _Job:
    """What all targets of one export share; `made` caches each format that was made from the source."""

    described: sources.Described
    golden: golden.Golden
    outputs: tuple[TensorSpec, ...]
    verify: bool
    tolerance: Mapping[str, float]
    progress: Progress
    origin: Mapping[str, Any]
    made: dict[str, Captured | Artifact] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        return self.described.source


def _consumes(name: str) -> Sequence[str]:
    return plugins.target(name).target.consumes


def _reference(described: sources.Described, sample: str | os.PathLike[str] | None, full: bool) -> golden.Golden:
    """Golden data from the source itself, before any exporter has touched it."""
    source, specs = described.source, described.specs
    if source.golden is not None:
        if sample is not None:
            raise OptionError(
                "--sample does not go with an artifact as source: its golden data stands for the model",
                "give the sample when the first artifact is exported",
            )
        return golden.load(source.golden)
    samples = cases.load_samples(Path(sample), specs) if sample is not None else []
    drawn = cases.generate(specs, described.example, samples, minimal=not full)
    call, state = _callable(source, specs)
    return golden.compute(call, drawn, state, repeat=full)


def _callable(source: Source, specs: Sequence[TensorSpec]) -> tuple[Callable[..., Any], golden.State]:
    if source.reference is not None:
        return source.reference, golden.NoState()
    from . import torchref

    program = source.module if source.format == plan.CAPTURED else None
    module = program.module() if program is not None else source.module
    return torchref.reference(module, specs, source.outputs, program), torchref.ModuleState(module)


def _export_chain(job: _Job, chain: Sequence[str], final: Path, chosen: Mapping[str, Any]) -> Artifact:
    """Make the formats of `chain` one from another; the last is written to `final`."""
    current: Source | Captured | Artifact = job.source
    if job.source.format not in (plan.MODULE, plan.CAPTURED) and job.source.path is not None:
        current = manifest.read(job.source.path) if (job.source.path / manifest.NAME).is_file() else job.source
    if job.source.format == plan.CAPTURED:
        current = _program(job)
    for name in chain:
        if name == plan.CAPTURED:
            current = _captured(job)
            if name != chain[-1]:
                continue
        place = final if name == chain[-1] else final.with_name(f"{final.name}.{name}")
        if place != final and name in job.made:
            current = job.made[name]
            continue
        current = _export_one(job, name, current, place, chosen.get(name))
        job.made.setdefault(name, current)
    assert isinstance(current, Artifact)
    return current


def _captured(job: _Job) -> Captured:
    made = job.made.get(plan.CAPTURED)
    if isinstance(made, Captured):
        return made
    if job.source.format == plan.CAPTURED:
        captured = _program(job)
    else:
        job.progress("capture with torch.export")
        captured = capturing.capture(job.described, job.outputs)
    job.made[plan.CAPTURED] = captured
    return captured


def _program(job: _Job) -> Captured:
    return Captured(
        job.source.module,
        job.described.specs,
        job.outputs,
        dynamic_shapes=capturing.dynamic_shapes(job.described.specs),
        processing=job.source.processing,
    )


def _export_one(job: _Job, name: str, given: Source | Captured | Artifact, final: Path, options: Any) -> Artifact:
    plugin = plugins.require(name, "export")
    if options is None:
        options = _default_options(plugin, "export")
    job.progress(f"convert to {name}")
    if plugin.target.mutates:
        given = copy.deepcopy(given)
    with staging.staged(final) as draft:
        build = plugins.call(plugin, "export", source=given, out=draft, options=options)
        _copy_files(job.source.files, draft)
        step = Step("export", name, _json_options(options), _tools(plugin, build), job.origin)
        artifact = Artifact(
            draft, name, build.entry, job.described.specs, job.outputs, build.precision,
            (*job.source.lineage, step), processing=job.source.processing, details=build.details,
        )  # fmt: skip
        return finish(artifact, final, job.golden, job.verify, job.tolerance, job.progress)


def finish(
    artifact: Artifact,
    final: Path,
    reference: golden.Golden,
    verify: bool,
    tolerance: Mapping[str, float],
    progress: Progress,
) -> Artifact:
    """Write golden data, run the gate, write the manifest and put the artifact in place.

    Raises ParityError when the gate fails; the artifact is then `FINAL.failed`.
    """
    draft = artifact.path
    golden.save(reference, artifact.golden)
    if verify:
        progress(f"verify {artifact.format} in a fresh process")
        parity = gate.verify(artifact, tolerance, skipped=reference.skipped)
    else:
        parity = Parity(False, "not verified: --no-verify", skipped=reference.skipped)
    kept = golden.trim(reference, GOLDEN_BYTES)
    if len(kept.cases) < len(reference.cases):
        golden.save(kept, artifact.golden)
    artifact = replace(artifact, parity=parity, files=manifest.list_files(draft))
    failed = verify and parity.verified is False
    place = staging.failed_place(final) if failed else final
    with staging.output_errors(place):
        manifest.write(artifact)
    staging.publish(draft, place)
    if failed:
        raise ParityError(
            f"{artifact.format} does not compute what the source computes: {parity.reason}",
            f"look at {place}; a wider --tolerance or --no-verify are the ways round",
        )
    return replace(artifact, path=place)


def _copy_files(files: Mapping[str, Path], draft: Path) -> None:
    import shutil

    for name, path in files.items():
        place = draft / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _origin(source: Source) -> dict[str, Any]:
    origin: dict[str, Any] = {"ref": source.ref, "format": source.format}
    if source.module is not None and hasattr(source.module, "state_dict"):
        from .torchref import fingerprint

        origin["fingerprint"] = fingerprint(source.module)
    elif source.path is not None and source.path.is_file():
        origin["fingerprint"] = manifest.sha256(source.path)
    return origin


def _tools(plugin: plugins.Plugin, build: Build) -> dict[str, str]:
    return {
        "modelexport": __version__,
        plugin.entry.distribution: plugin.entry.version,
        **plugins.versions(build.tools),
    }


def _json_options(options: Any) -> dict[str, Any]:
    return {opts.key_of(k): v for k, v in asdict(options).items()} if is_dataclass(options) else {}  # type: ignore[arg-type]


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


def _default_options(plugin: plugins.Plugin, verb: str) -> Any:
    return plugin.target.options.get(verb, opts.NoOptions)()


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
    progress: Progress = _silent,
) -> Artifact:
    """Run the parity gate on an artifact again, against its golden data or, with `source`, the model itself.

    The manifest is updated with the result, which is in `Artifact.parity` of the one returned.
    Raises ParityError when the gate fails: the manifest then says `"verified": false`.
    """
    artifact = load(path)
    plugins.require(artifact.format, "run")
    tolerances = gate.parse_tolerance(tolerance) if isinstance(tolerance, str) else dict(tolerance or {})
    subject, reference = artifact, golden.load(artifact.golden)
    if source is not None:
        progress("load the source")
        declared = tuple(inputs) or tuple(str(spec) for spec in artifact.inputs)
        given = LoadOptions(declared, Path(weights) if weights else None, task, allow_pickle, allow_download)
        loaded = sources.resolve(source, given)
        loaded = replace(loaded, outputs=tuple(spec.name for spec in artifact.outputs))
        from .torchref import eval_mode

        with eval_mode(loaded):
            progress("compute the reference")
            reference = _reference(sources.describe(loaded), sample, full=True)
    elif sample is not None:
        raise OptionError("--sample needs --source: only the model itself can answer new inputs", "add --source")
    progress(f"verify {artifact.format} in a fresh process")
    parity = gate.verify(
        subject, tolerances, options, reference.skipped, reference if source is not None else None
    )
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


def optimize(path: str | os.PathLike[str], out: str | os.PathLike[str] | None = None, **keywords: Any) -> Artifact:
    """Write an optimized copy of an artifact to `out` (default: beside it); it passes the same gate."""
    return _transform("optimize", path, out, **keywords)


def quantize(path: str | os.PathLike[str], out: str | os.PathLike[str] | None = None, **keywords: Any) -> Artifact:
    """Write a quantized copy of an artifact to `out` (default: beside it); it passes its precision's gate."""
    return _transform("quantize", path, out, **keywords)


def _transform(
    verb: str,
    path: str | os.PathLike[str],
    out: str | os.PathLike[str] | None,
    *,
    options: Mapping[str, Any] | None = None,
    tolerance: Mapping[str, float] | str | None = None,
    verify: bool = True,
    progress: Progress = _silent,
) -> Artifact:
    artifact = load(path)
    plugin = plugins.require(artifact.format, verb)
    chosen = target_options([artifact.format], verb, options or {})[artifact.format]
    stem = artifact.path.name.removesuffix(f".{artifact.format}")
    final = Path(out) if out is not None else artifact.path.with_name(f"{stem}.{verb}d.{artifact.format}")
    if final.resolve() == artifact.path.resolve():
        raise OutputError(f"{final} is the artifact itself", "write the result elsewhere with -o")
    staging.check_place(final)
    tolerances = gate.parse_tolerance(tolerance) if isinstance(tolerance, str) else dict(tolerance or {})
    progress(f"{verb} {artifact.path}")
    with staging.staged(final) as draft:
        build = plugins.call(plugin, verb, artifact=artifact, out=draft, options=chosen)
        carried = {e.path: artifact.path / e.path for e in artifact.files if e.path.startswith("processing/")}
        _copy_files(carried, draft)
        step = Step(
            verb, artifact.format, _json_options(chosen), _tools(plugin, build), {"ref": str(artifact.path)}
        )
        result = replace(
            artifact, path=draft, entry=build.entry, precision=build.precision,
            lineage=(*artifact.lineage, step), details={**artifact.details, **build.details},
        )  # fmt: skip
        return finish(result, final, golden.load(artifact.golden), verify, tolerances, progress)


# --------------------------------------------------------------------------------------- benchmark


def benchmark(paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str], **keywords: Any) -> Any:
    """Time artifacts, and a baseline, against each other: see `modelexport.bench.benchmark`."""
    from . import bench

    listed = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    return bench.benchmark(listed, **keywords)


__all__ = [
    "TargetError",
    "benchmark",
    "export",
    "load",
    "open_session",
    "optimize",
    "quantize",
    "run",
    "verify",
]
