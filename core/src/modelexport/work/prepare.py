"""Prepare a source once for any number of exports: its inputs, its reference answers, its captured program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..contract import progress
from ..contract.sources import Captured, NoState, Source, State
from ..contract.target import CAPTURED, MODULE
from ..contract.tensors import TensorSpec, fits
from ..errors import OptionError
from ..gate import cases, golden
from ..model import capture, inputs, narrow, reference
from ..model.inputs import DescribedSource
from ..store import digests, manifest
from .requests import Verification


@dataclass
class Program:
    """The captured program of a source: made when it is first wanted, and once.

    With `wide`, it is made from that one, which is the same program with wider dims.
    """

    described: DescribedSource
    wide: Program | None = None
    _made: Captured | None = None

    def take(self) -> Captured:
        """Raises CaptureError where torch.export can't follow the model."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def _make(self) -> Captured:
        source, specs = self.described.source, self.described.specs
        if self.wide is not None:
            wide = self.wide.take()
            progress.stage("narrow the captured program")
            return narrow.program(wide, self.described)
        if source.format == CAPTURED:
            shapes = capture.dynamic_shapes(specs)
            return Captured(source.module, specs, dynamic_shapes=shapes, processing=source.processing)
        progress.stage("capture with torch.export")
        return capture.capture(self.described)


@dataclass(frozen=True)
class Prepared:
    """A source ready for any number of exports: its reference answers were computed before any exporter saw it."""

    described: DescribedSource
    golden: golden.Golden
    outputs: tuple[TensorSpec, ...]
    origin: Mapping[str, Any]
    program: Program

    @property
    def source(self) -> Source:
        return self.described.source

    def captured(self) -> Captured:
        """What a target that consumes `captured` is given. Raises CaptureError."""
        return replace(self.program.take(), outputs=self.outputs)


def prepare(source: Source, verification: Verification = Verification()) -> Prepared:
    """Find the source's inputs and compute its reference answers.

    Raises InputError for unknown inputs, ReferenceError where the source gives no reference.
    """
    return prepare_each(source, {"": {}, "one": {}}, verification)["one"]


def prepare_each(
    source: Source, held: Mapping[str, narrow.Dims], verification: Verification
) -> dict[str, Prepared]:
    """Target → the source prepared for it, with the dims that `held` names for it fixed or narrower.

    `held[""]` is for every target, what a target holds comes on top. Targets that hold the same dims share one
    preparation, and all share one capture. Raises OptionError for a dim that the source lacks.
    """
    described = inputs.describe(source)
    every = held[""]
    if any(held.values()) and source.format not in (MODULE, CAPTURED):
        raise OptionError(f"--dim goes with PyTorch models; {source.ref} is {source.format}", "leave it out")
    shared = _narrowed(described, every)
    each = {target: _narrowed(shared, dims) for target, dims in held.items() if target}
    # A live model is captured for the sizes that all targets share; a finished program is as wide as it is.
    widest = Program(shared if source.format == MODULE else described)
    # Lazy modules have their weights only when they have answered.
    different = {own.specs: own for own in each.values()}
    answers = {specs: reference_answers(own, verification, described.specs) for specs, own in different.items()}
    origin, prepared = _origin(source), {}
    for specs, own in different.items():
        program = widest if specs == widest.described.specs else Program(own, widest)
        outputs = golden.output_specs(answers[specs], specs)
        prepared[specs] = Prepared(own, answers[specs], outputs, origin, program)
    return {target: prepared[own.specs] for target, own in each.items()}


def _narrowed(described: DescribedSource, dims: narrow.Dims) -> DescribedSource:
    """The same source with some dims fixed, or within narrower bounds, and without golden data of other sizes."""
    if not dims:
        return described
    specs = narrow.specs(described.specs, dims)
    return replace(described, source=replace(described.source, inputs=specs, golden=None), specs=specs)


def reference_answers(
    described: DescribedSource, verification: Verification, declared: Sequence[TensorSpec]
) -> golden.Golden:
    """Golden data from the source itself, before any exporter has touched it.

    Without verification, for two small cases only. Samples fit `declared`, the inputs as the source takes them;
    those that do not fit narrower ones are left out.
    """
    source, specs, sample = described.source, described.specs, verification.sample
    if source.golden is not None:
        if sample is not None:
            raise OptionError(
                "--sample does not go with an artifact as source: its golden data stands for the model",
                "give the sample when the first artifact is exported",
            )
        return golden.load(source.golden)
    samples = cases.load_samples(sample, declared) if sample is not None else []
    samples = [each for each in samples if fits(each, specs)]
    drawn = cases.generate(specs, described.example, samples, minimal=not verification.enabled)
    return answers_to(described, drawn, repeat=verification.enabled)


def answers_to(described: DescribedSource, drawn: Sequence[cases.Case], repeat: bool = True) -> golden.Golden:
    """What the source itself says to `drawn`. Raises ReferenceError where it gives no reference."""
    with reference.eval_mode(described.source):
        call, state = _callable(described.source, described.specs)
        return golden.compute(call, drawn, state, repeat=repeat)


def _callable(source: Source, specs: Sequence[TensorSpec]) -> tuple[Callable[..., Any], State]:
    """What answers for the source, and what it remembers between calls."""
    if source.reference is not None:
        return source.reference, source.state or NoState()
    program = source.module if source.format == CAPTURED else None
    module = program.module() if program is not None else source.module
    return reference.reference(module, specs, source.outputs, program), reference.ModuleState(module)


def _origin(source: Source) -> dict[str, Any]:
    """The lineage's record of the source: where it was, and what it held."""
    origin: dict[str, Any] = {"ref": source.ref, "format": source.format}
    if source.module is not None and hasattr(source.module, "state_dict"):
        origin["fingerprint"] = reference.fingerprint(source.module)
    elif source.golden is not None and source.path is not None:
        origin["fingerprint"] = digests.artifact_fingerprint(manifest.read(source.path, check_files=False))
    elif source.path is not None and source.path.exists():
        origin["fingerprint"] = digests.tree_sha256(source.path)
    return origin
