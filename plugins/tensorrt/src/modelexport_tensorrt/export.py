"""Verified ONNX → model.engine, in an artifact that says what was proven where.

The ONNX model is verified against the source before it gets here. An engine is verified by what its builder says
of it, and by its numbers where a GPU is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Build, CompiledLayer, Source, StandIn, TensorSpec, options
from modelexport.errors import ArtifactError
from modelexport.toolkit import compute_golden, generate_cases, load_golden
from modelexport_onnx import modelfile

from . import ExportOptions, build, flavours, onnxfile, refusals

if TYPE_CHECKING:
    from modelexport.contract import Arrays
    from modelexport.toolkit import GoldenCase

#: the ONNX model that went in, float32 even where the engine isn't: later steps start from it
SOURCE = "source"
ONNX = f"{SOURCE}/{modelfile.FILE}"

#: the precisions as the options name them → as modelexport does
PRECISIONS = {
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "int8": "int8",
    "fp8": "fp8",
    "int4": "int4",
}

#: those that take no real inputs
_CONVERTED = ("fp16", "bf16", "int4")


@dataclass(frozen=True)
class Given:
    """An ONNX model as it came: its file, tensors and precision, what is proven of it, and what tells its answers:
    golden data, or a `reference` to call."""

    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: str
    facts: Mapping[str, Any]
    golden: Path | None = None
    reference: Callable[[Arrays], Arrays] | None = None

    def cases(self) -> Sequence[GoldenCase]:
        """The reference's inputs and outputs."""
        if self.golden is not None and self.golden.is_file():
            return load_golden(self.golden).cases
        return compute_golden(self.reference, generate_cases(self.inputs)).cases if self.reference else ()


def export(source: Artifact | Source, out: Path, options: ExportOptions) -> Build:
    """Write the engine of an ONNX artifact, or of an .onnx file, into `out`.

    Raises OptionError and ConversionError; see `build.engine`.
    """
    given = read(source)
    wanted = PRECISIONS.get(options.precision, given.precision)
    if wanted == given.precision:
        return finish(given.path, out, options, given.inputs, given.outputs, wanted, given.facts, given.path)
    if options.precision not in _CONVERTED:
        refusals.check_static(wanted, given.precision)
    if given.precision != "float32":
        raise refusals.already(wanted, given.precision)
    build.request(given.path, options, given.inputs, wanted)  # what can't be built is told before the work
    return _converted(given, out, options, wanted)


def _converted(given: Given, out: Path, options: ExportOptions, wanted: str) -> Build:
    """The engine of the model in a precision that it doesn't have yet."""
    import tempfile

    from .precision import converted

    with tempfile.TemporaryDirectory(prefix="mx-tensorrt-") as folder:
        path = Path(folder) / modelfile.FILE
        made = converted(given.path, path, options.precision, given.cases())
        facts = {**made.onnx, "kept": dict(made.kept), **made.settings}
        return finish(path, out, options, given.inputs, given.outputs, wanted, facts, given.path)


def read(source: Artifact | Source) -> Given:
    """What came: another target's artifact, which its gate has verified, or somebody's file."""
    if isinstance(source, Artifact):
        parity = source.parity
        worst = max(parity.outputs, key=lambda each: each.used, default=None)
        facts: dict[str, Any] = {"precision": source.precision, "verified": parity.verified}
        if worst is not None:
            facts["worst"] = {key: getattr(worst, key) for key in ("name", "case", "max_abs", "cosine", "used")}
        return Given(source.entry_path, source.inputs, source.outputs, source.precision, facts, source.golden)
    assert source.path is not None
    model = onnxfile.load_graph(source.path)
    precision = onnxfile.precision(model)
    facts = {"precision": precision, "verified": "it is the source itself"}
    outputs = onnxfile.outputs(model)
    return Given(source.path, source.specs, outputs, precision, facts, source.golden, source.reference)


def finish(
    onnx: Path,
    out: Path,
    options: ExportOptions,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    precision: str,
    facts: Mapping[str, Any],
    keep: Path | None = None,
) -> Build:
    """Build the engine of `onnx` into `out`, and beside it the model `keep` for later steps.

    `facts` say what is proven of the ONNX model. Raises what `build.engine` raises.
    """
    details, layers = build.engine(onnx, out, options, inputs, outputs, precision)
    details["onnx"] = dict(facts)
    stand_in = None
    if keep is not None and options.keep_onnx:
        (out / SOURCE).mkdir(exist_ok=True)
        modelfile.copy(keep, out / SOURCE)
        # What the copies of `mx quantize` are compared with, where no GPU is.
        stand_in = StandIn("onnx", ONNX)
    package = flavours.BY_NAME[details["flavour"]].module
    notes = _notes(details, layers)
    return Build(build.FILE, (package, "onnx"), precision, details, notes, layers=layers, stand_in=stand_in)


def _notes(details: Mapping[str, Any], layers: Sequence[CompiledLayer]) -> tuple[str, ...]:
    bounds = details["bounds"].items()
    notes = [f"{name} has no upper bound, engines have one: it is {most} (-k bound=…)" for name, most in bounds]
    notes += [
        f"parts of the model are {dtype}; TensorRT computes them in float32"
        for dtype in details.get("narrowed", ())
    ]
    if not layers:
        notes.append("the builder lists no layers: what the engine computes in was not checked")
    if lacks := _cannot_run(details["sm"]):
        proven = {True: "; the ONNX model that went in was verified", False: "; nor was the ONNX model verified"}
        notes.append(
            f"built, and its structure checked; its numbers were not run on a GPU here ({lacks})"
            f"{proven.get(details['onnx'].get('verified'), '')}. `mx verify` on such a GPU completes it"
        )
    return tuple(notes)


def _cannot_run(sms: Sequence[str]) -> str:
    """Why the engine can't run here; empty where it can."""
    here = flavours.gpus()
    if not here:
        return flavours.lacking() or "no NVIDIA GPU"
    return "" if flavours.CURRENT in sms or set(here) & set(sms) else f"its GPU is {', '.join(here)}"


# --------------------------------------------------------------------------------------- later steps


def options_of(artifact: Artifact) -> ExportOptions:
    """The options that the artifact's engine was built with, for another one like it. Raises ArtifactError."""
    steps = [step for step in artifact.lineage if step.verb == "export" and step.target == artifact.format]
    if not steps:
        raise ArtifactError(f"{artifact.path} does not say how it was exported", "export the model again")
    chosen: ExportOptions = options.build_options(ExportOptions, steps[-1].options, f"target {artifact.format!r}")
    return chosen


def source_of(artifact: Artifact) -> Given:
    """The ONNX model that the artifact's engine was built from. Raises ArtifactError where it wasn't kept."""
    path = artifact.path / ONNX
    if not path.is_file():
        raise ArtifactError(
            f"{artifact.path} was exported without its ONNX model, which this starts from",
            "export again without -k keep-onnx=false",
        )
    precision = onnxfile.precision(onnxfile.load_graph(path))
    facts = {**artifact.details.get("onnx", {}), "precision": precision}
    return Given(path, artifact.inputs, artifact.outputs, precision, facts, artifact.golden)


def like(artifact: Artifact, precision: str) -> ExportOptions:
    """The options for another engine of the same model at `precision`, as `options_of` gives them otherwise."""
    return replace(options_of(artifact), precision=precision)  # type: ignore[arg-type]
