"""From a source to finished artifacts: prepare once, then make each target's chain of formats.

`prepare` computes the reference before any exporter is called; `make` captures at most once, calls one plugin
after another, and ends each artifact with the gate; `finish` is that end, shared with optimize and quantize.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import capture as capturing
from . import cases, evidence, golden, manifest, narrow, plan, plugins, snippets, staging, steps, torchref, worker
from . import options as opts
from . import parity as gate
from . import source as sources
from .errors import OptionError, ParityError
from .types import Artifact, Build, Captured, Parity, Source, Step, TensorSpec

#: called with one line as each stage of long work begins
Progress = Callable[[str], None]

#: golden data kept in an artifact, at most; the gate itself always sees every case
GOLDEN_BYTES = 64 << 20


def silent(_: str) -> None:
    """Progress for those who don't want any."""


@dataclass
class Prepared:
    """A source ready for any number of exports: its inputs, reference answers and outputs.

    `made` keeps each format that was made from it, so the model is captured once; what nobody asked for but as a
    step to something else is in the hidden folder `workshop`, until `release`. `wide` is the same source with
    wider dims, when this one was narrowed: it is captured as that.
    """

    described: sources.Described
    golden: golden.Golden
    outputs: tuple[TensorSpec, ...]
    origin: Mapping[str, Any]
    made: dict[str, Captured | Artifact] = field(default_factory=dict)
    wide: Prepared | None = None
    workshop: Path | None = None

    @property
    def source(self) -> Source:
        return self.described.source

    def release(self) -> None:
        """Remove what was made on the way to other formats, and forget artifacts: their owner may remove them."""
        self.made = {name: each for name, each in self.made.items() if not isinstance(each, Artifact)}
        if self.workshop is not None:
            staging.discard(self.workshop)
            self.workshop = None


@dataclass(frozen=True)
class Gate:
    """How artifacts are to be verified, and who is told about the progress.

    `child` is a worker to verify in; without it, each artifact gets a process of its own.
    """

    verify: bool = True
    tolerance: Mapping[str, float] = field(default_factory=dict)
    progress: Progress = silent
    child: worker.Child | None = None


def prepare(source: Source, sample: Path | None = None, full: bool = True) -> Prepared:
    """Find the source's inputs and compute its reference answers; without `full`, for two small cases only.

    Raises InputError for unknown inputs, ReferenceError where the source gives no reference.
    """
    described = sources.describe(source)
    answers = reference(described, sample, full)
    return Prepared(described, answers, golden.output_specs(answers, described.specs), _origin(source))


def check_dims(source: Source, held: Mapping[str, narrow.Dims]) -> None:
    """Raise OptionError for a dim that `source` lacks, and for a source whose dims nobody can narrow.

    `held[""]` is for all targets, what each of them holds comes on top.
    """
    if source.format not in (plan.MODULE, plan.CAPTURED):
        raise OptionError(f"--dim goes with PyTorch models; {source.ref} is {source.format}", "leave it out")
    base = narrow.specs(sources.describe(source).specs, held[""])
    for dims in (dims for target, dims in held.items() if target):
        narrow.specs(base, dims)


def narrowed(job: Prepared, dims: narrow.Dims, sample: Path | None = None, full: bool = True) -> Prepared:
    """`job` with some dims fixed, or within narrower bounds: its reference answers are computed for these."""
    if not dims:
        return job
    specs = narrow.specs(job.described.specs, dims)
    described = replace(job.described, source=replace(job.source, inputs=specs, golden=None), specs=specs)
    answers = reference(described, sample, full, job.described.specs)
    return Prepared(described, answers, golden.output_specs(answers, specs), job.origin, wide=job)


def chain(target: str, start: str) -> tuple[str, ...]:
    """The formats to make for `target` from `start`; see `plan.chain`."""
    return plan.chain(target, start, lambda name: plugins.target(name).target.consumes)


def reference(
    described: sources.Described, sample: Path | None, full: bool, declared: Sequence[TensorSpec] | None = None
) -> golden.Golden:
    """Golden data from the source itself, before any exporter has touched it.

    With `declared`, the inputs as the source takes them, samples that fit these and not `described` are left out.
    """
    source, specs = described.source, described.specs
    if source.golden is not None:
        if sample is not None:
            raise OptionError(
                "--sample does not go with an artifact as source: its golden data stands for the model",
                "give the sample when the first artifact is exported",
            )
        return golden.load(source.golden)
    samples = cases.load_samples(sample, declared or specs) if sample is not None else []
    samples = [each for each in samples if cases.fits(each, specs)]
    drawn = cases.generate(specs, described.example, samples, minimal=not full)
    with torchref.eval_mode(source):
        call, state = _callable(source, specs)
        return golden.compute(call, drawn, state, repeat=full)


def _callable(source: Source, specs: Sequence[TensorSpec]) -> tuple[Callable[..., Any], golden.State]:
    if source.reference is not None:
        return source.reference, source.state or golden.NoState()
    program = source.module if source.format == plan.CAPTURED else None
    module = program.module() if program is not None else source.module
    return torchref.reference(module, specs, source.outputs, program), torchref.ModuleState(module)


def make(
    job: Prepared,
    formats: Sequence[str],
    final: Path,
    chosen: Mapping[str, Any],
    checks: Gate,
    languages: Sequence[str] = (),
) -> Artifact:
    """Make `formats` one from another; the last is written to `final`.

    `chosen`: options by target; `languages`: snippets to write into the last, where its target has them.
    """
    current: Source | Captured | Artifact = job.source
    if job.source.format not in (plan.MODULE, plan.CAPTURED) and job.source.path is not None:
        current = manifest.read(job.source.path) if manifest.is_in(job.source.path) else job.source
    if job.source.format == plan.CAPTURED:
        current = _captured(job, checks.progress)
    with torchref.eval_mode(job.source):
        for name in formats:
            if name == plan.CAPTURED:
                current = _captured(job, checks.progress)
                if name != formats[-1]:
                    continue
            if name == formats[-1]:
                current = _export_one(job, name, current, final, chosen, checks, languages)
                job.made.setdefault(name, current)
            else:
                current = job.made.get(name) or _between(job, name, current, final, chosen, checks)
    assert isinstance(current, Artifact)
    return current


def _between(
    job: Prepared,
    name: str,
    given: Source | Captured | Artifact,
    final: Path,
    chosen: Mapping[str, Any],
    checks: Gate,
) -> Artifact:
    """An artifact that is a step to `final`; one that fails the gate is left beside it, for inspection."""
    job.workshop = job.workshop or staging.workshop(final)
    failed = staging.failed_place(final.with_name(f"{final.name}.{name}"))
    made = _export_one(job, name, given, job.workshop / f"{final.stem}.{name}", chosen, checks, failed=failed)
    job.made[name] = made
    return made


def _captured(job: Prepared, progress: Progress) -> Captured:
    made = job.made.get(plan.CAPTURED)
    if isinstance(made, Captured):
        return made
    if job.source.format == plan.CAPTURED and job.wide is None:
        captured = _program(job)
    elif job.wide is not None:
        wide = _captured(job.wide, progress)
        progress("narrow the captured program")
        captured = narrow.program(wide, job.described, job.outputs)
    else:
        progress("capture with torch.export")
        captured = capturing.capture(job.described, job.outputs)
    job.made[plan.CAPTURED] = captured
    return captured


def _program(job: Prepared) -> Captured:
    return Captured(
        job.source.module,
        job.described.specs,
        job.outputs,
        dynamic_shapes=capturing.dynamic_shapes(job.described.specs),
        processing=job.source.processing,
    )


def _export_one(
    job: Prepared,
    name: str,
    given: Source | Captured | Artifact,
    final: Path,
    chosen: Mapping[str, Any],
    checks: Gate,
    languages: Sequence[str] = (),
    failed: Path | None = None,
) -> Artifact:
    plugin = plugins.require(name, "export")
    options = export_options(plugin, chosen)
    checks.progress(f"convert to {name}")
    if plugin.target.mutates:
        given = copy.deepcopy(given)
    with staging.staged(final) as draft:
        build = plugins.call(plugin, "export", source=given, out=draft, options=options)
        carry(job.source.files, draft)
        step = lineage_step("export", plugin, build, options, job.origin)
        before = given.lineage if isinstance(given, Artifact) else job.source.lineage
        artifact = Artifact(
            draft, name, build.entry, job.described.specs, job.outputs, build.precision,
            (*before, step), processing=job.source.processing, details=build.details,
        )  # fmt: skip
        snippets.write(artifact, languages)
        return finish(artifact, final, _answers(job, build), checks, failed=failed)


def export_options(plugin: plugins.Plugin, chosen: Mapping[str, Any]) -> Any:
    """The plugin's options among those chosen for each target, or its default ones."""
    default = plugin.target.options.get("export", opts.NoOptions)
    found = chosen.get(plugin.target.name)
    return default() if found is None else found


def _answers(job: Prepared, build: Build) -> golden.Golden:
    """The source's own; where the build names real samples, its answers to these in place of random inputs."""
    if not build.samples:
        return job.golden
    described = job.described
    with torchref.eval_mode(job.source):
        call, state = _callable(job.source, described.specs)
        drawn = [cases.Case(f"calibration {index}", sample) for index, sample in enumerate(build.samples)]
        real = golden.compute(call, drawn, state)
    left_out = {case.name: evidence.RANDOM for case in job.golden.cases if not evidence.is_real(case)}
    kept = [case for case in job.golden.cases if case.name not in left_out]
    return golden.Golden((*kept, *real.cases), {**job.golden.skipped, **left_out})


def finish(
    artifact: Artifact,
    final: Path,
    answers: golden.Golden,
    checks: Gate,
    refusal: ParityError | None = None,
    failed: Path | None = None,
) -> Artifact:
    """Write golden data, run the gate, write the manifest and put the artifact in place.

    Raises ParityError when the gate fails, and `refusal`, a reason to fail that was found before; the artifact
    is then at `failed`, `FINAL.failed` by default.
    """
    draft = artifact.path
    golden.save(answers, artifact.golden)
    if checks.verify:
        checks.progress(f"verify {artifact.format} in a fresh process")
        parity = gate.verify(artifact, checks.tolerance, skipped=answers.skipped, child=checks.child)
    else:
        parity = Parity(False, "not verified: --no-verify", skipped=answers.skipped)
    kept = golden.trim(answers, GOLDEN_BYTES)
    if len(kept.cases) < len(answers.cases):
        golden.save(kept, artifact.golden)
    falls_short = refusal is not None or (checks.verify and parity.verified is False)
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


def carry(files: Mapping[str, Path], draft: Path) -> None:
    """Copy files into an artifact under their names there."""
    import shutil

    for name, path in files.items():
        place = draft / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _origin(source: Source) -> dict[str, Any]:
    origin: dict[str, Any] = {"ref": source.ref, "format": source.format}
    if source.module is not None and hasattr(source.module, "state_dict"):
        origin["fingerprint"] = torchref.fingerprint(source.module)
    elif source.golden is not None and source.path is not None:
        origin["fingerprint"] = steps.fingerprint(manifest.read(source.path, check_files=False))
    elif source.path is not None and source.path.exists():
        origin["fingerprint"] = manifest.tree_sha256(source.path)
    return origin


def lineage_step(verb: str, plugin: plugins.Plugin, build: Build, options: Any, origin: Mapping[str, Any]) -> Step:
    """The lineage's record of one call of a plugin."""
    tools = {**steps.own_tools(plugin), **plugins.versions(build.tools)}
    return Step(verb, plugin.target.name, steps.chosen(options), tools, origin)
