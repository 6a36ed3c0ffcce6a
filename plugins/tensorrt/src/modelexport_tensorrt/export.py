"""Verified ONNX → model.engine, in an artifact that says what was proven where.

The ONNX model is verified against the source before it gets here, in the precision that it has: an engine computes
in the types of its model. It is verified by what its builder says of it, and by its numbers where a GPU is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import modelexport_onnx.toolkit as onnx
from modelexport.contract import Artifact, Build, CompiledLayer, Source, StandIn, TensorSpec, build_options
from modelexport.errors import ArtifactError, OptionError, first_line
from modelexport.toolkit import bound_notes

from . import ExportOptions, build, files, flavours

#: the ONNX model that went in: `mx quantize` starts from it, and it answers where no GPU is
SOURCE = "source"
ONNX = f"{SOURCE}/{onnx.FILE}"


@dataclass(frozen=True)
class Model:
    """An ONNX model to compile: its file, tensors and precision.

    `facts` say what is proven of it, `running` is what a session on ONNX Runtime reads of its details.
    """

    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: str
    facts: Mapping[str, Any]
    running: Mapping[str, Any] = field(default_factory=dict)


def export(source: Artifact | Source, out: Path, options: ExportOptions) -> Build:
    """Write the engine of an ONNX artifact, or of an .onnx file, into `out`.

    Raises OptionError and ConversionError; see `build.engine`.
    """
    return compiled(read(source), out, options)


def read(source: Artifact | Source) -> Model:
    """What came: another target's artifact, which its gate has verified, or somebody's file."""
    if isinstance(source, Artifact):
        return _of_artifact(source)
    assert source.path is not None
    graph = onnx.load_graph(source.path)
    precision = onnx.precision(graph)
    facts = {"precision": precision, "verified": "it is the source itself"}
    return Model(source.path, source.specs, onnx.outputs(graph), precision, facts)


def _of_artifact(artifact: Artifact) -> Model:
    parity = artifact.parity
    facts: dict[str, Any] = {"precision": artifact.precision, "verified": parity.verified}
    if worst := max(parity.outputs, key=lambda each: each.used, default=None):
        facts["worst"] = {
            key: getattr(worst, key) for key in ("name", "case", "max_abs", "max_rel", "cosine", "used")
        }
    if kept := artifact.details.get("kept_in_float32"):
        facts["kept"] = kept
    running = onnx.running(artifact.details)
    return Model(artifact.entry_path, artifact.inputs, artifact.outputs, artifact.precision, facts, running)


def compiled(model: Model, out: Path, options: ExportOptions) -> Build:
    """Build the engine of `model` into `out`, and keep the model beside it.

    Raises OptionError for a model that does not compute in the precision that the options ask for, and what
    `build.engine` raises.
    """
    if flavours.PRECISIONS.get(options.precision, model.precision) != model.precision:
        raise OptionError(
            f"precision={options.precision}: the ONNX model computes in {model.precision}",
            f"mx export … -t tensorrt --precision {options.precision} makes it so, from the float32 model",
        )
    details, layers = build.engine(model.path, out, options, model.inputs, model.outputs, model.precision)
    details["onnx"] = dict(model.facts)
    stand_in = None
    if options.keep_onnx:
        (out / SOURCE).mkdir(exist_ok=True)
        onnx.copy(model.path, out / SOURCE)
        stand_in = StandIn("onnx", ONNX, model.running)
    package = flavours.BY_NAME[details["flavour"]].module
    notes = _notes(details, layers)
    return Build(files.FILE, (package, "onnx"), model.precision, details, notes, layers=layers, stand_in=stand_in)


def _notes(details: Mapping[str, Any], layers: Sequence[CompiledLayer]) -> tuple[str, ...]:
    notes = bound_notes(details["bounds"], "engines have one")
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


#: options that name files of the machine an engine was built on. A manifest may be anybody's: the libraries would
#: be loaded here, and the timing cache be written
OF_THE_MACHINE = ("plugins", "timing-cache")


def options_of(artifact: Artifact) -> ExportOptions:
    """The options that the artifact's engine was built with, for another one like it.

    Files that its manifest names elsewhere are left out. Raises ArtifactError where it does not say how it was
    exported, or says what can't be.
    """
    steps = [step for step in artifact.lineage if step.verb == "export" and step.target == artifact.format]
    if not steps:
        raise ArtifactError(f"{artifact.path} does not say how it was exported", "export the model again")
    kept = {key: value for key, value in steps[-1].options.items() if key.replace("_", "-") not in OF_THE_MACHINE}
    try:
        chosen: ExportOptions = build_options(ExportOptions, kept, f"target {artifact.format!r}")
    except (OptionError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{artifact.path} says that it was exported in a way that can't be: {first_line(error)}",
            "export the model again",
        ) from error
    return chosen


def kept(artifact: Artifact) -> Artifact:
    """The ONNX model that the artifact's engine was built from, as an artifact of the ONNX target.

    Raises ArtifactError where it wasn't kept.
    """
    path = artifact.path / ONNX
    if not path.is_file():
        raise ArtifactError(
            f"{artifact.path} was exported without its ONNX model, which this starts from",
            "export again without -k keep-onnx=false",
        )
    held = artifact.stand_in
    running = held.details if held is not None and (held.format, held.entry) == ("onnx", ONNX) else {}
    precision = onnx.precision(onnx.load_graph(path))
    return replace(artifact, format="onnx", entry=ONNX, precision=precision, details=running)
