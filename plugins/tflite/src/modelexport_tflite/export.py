"""Captured program → model.tflite, through litert-torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Build, Captured, TensorSpec, stage
from modelexport.errors import MxError, OptionError
from modelexport.toolkit import GoldenCase, module_reference, verdict

from . import batch, conversion, files, inspection, metadata, naming, operators, session, sizes
from .files import FILE

if TYPE_CHECKING:
    from . import ExportOptions

#: how near a resized batch must be, as shares of an output's largest magnitude, in float32 and in half precision:
#: what is wrong about a batch is wrong by far, and the gate, which is stricter, comes after
_NEAR, _NEAR_HALF = 1e-3, 3e-2


def export(captured: Captured, out: Path, options: ExportOptions) -> Build:
    """Write `model.tflite` into `out`.

    Raises ConversionError: a dim that can't stay dynamic, operators without a translation (all at once), a state.
    """
    operators.check(captured)
    nhwc = _channels_last(captured.inputs, options)
    planned = sizes.plan(captured.inputs, captured.program)
    path = out / FILE
    plan = _converted(captured, planned, path, nhwc)
    details = inspection.describe(path, files.read(path)) | _session_details(plan, nhwc)
    if plan.batch is not None:
        details["resized"] = plan.batch.name
    details["processing"] = metadata.append(path, captured.processing)
    notes = tuple(_notes(captured, plan, planned, nhwc))
    return Build(FILE, ("torch", "litert-torch", "ai-edge-litert"), details=details, notes=notes)


def _channels_last(inputs: Sequence[TensorSpec], options: ExportOptions) -> tuple[str, ...]:
    """The inputs that the file takes with their channels last. Raises OptionError where none can be."""
    if options.layout == "nchw":
        return ()
    images = tuple(spec.name for spec in inputs if len(spec.shape) == 4 and "float" in spec.dtype)
    if not images:
        raise OptionError("-k layout=nhwc is for images, and no input has rank 4", "leave it out")
    return images


def _session_details(plan: sizes.Plan, nhwc: Sequence[str]) -> dict[str, Any]:
    """What a session of the file has to know of it."""
    signatures: Mapping[str, Any] = {"signatures": plan.signatures} if plan.listed else {}
    return {**signatures, **({"nhwc": list(nhwc)} if nhwc else {})}


def _converted(captured: Captured, planned: sizes.Plan, path: Path, nhwc: Sequence[str]) -> sizes.Plan:
    """Convert as planned; where the batch can't be resized, with a signature for each size of it.

    Returns the plan that the file keeps.
    """
    _convert(captured, planned, path, nhwc)
    if planned.batch is None or _resizes(captured, planned, path, nhwc):
        return planned
    listed = planned.unbatched()
    _convert(captured, listed, path, nhwc)
    return listed


def _convert(captured: Captured, plan: sizes.Plan, path: Path, nhwc: Sequence[str]) -> None:
    signatures = f" ({len(plan.signatures)} signatures)" if plan.listed else ""
    stage(f"convert with litert-torch{signatures}")
    samples = {key: sizes.sample(captured.inputs, at) for key, at in plan.traces().items()}
    conversion.convert(captured, samples, path, nhwc)
    model = files.read(path)
    naming.rename(model, captured.program)
    if plan.batch is not None:
        batch.free(model, plan.traced, plan.batch.sizes[0])
    files.write(model, path)


# --------------------------------------------------------------------------------------- proof


def _resizes(captured: Captured, plan: sizes.Plan, path: Path, nhwc: Sequence[str]) -> bool:
    """Whether the file computes what the program does at other sizes of the batch than it was converted at."""
    from . import RunOptions

    stage("compare other sizes of the batch")
    details = _session_details(plan, nhwc)
    artifact = Artifact(path.parent, "tflite", path.name, captured.inputs, captured.outputs, details=details)
    half = any(spec.dtype in ("float16", "bfloat16") for spec in captured.outputs)
    near = {"atol": 1e-6, "rtol": 0.0, "noise": _NEAR_HALF if half else _NEAR, "cosine": 0.0}
    try:
        with session.open_artifact(artifact, RunOptions()) as copy:
            return verdict(copy, list(_proofs(captured, plan)), "float32", near).ok
    except MxError:
        return False


def _proofs(captured: Captured, plan: sizes.Plan) -> Iterator[GoldenCase]:
    """What the program itself answers at several sizes of the batch."""
    names = [spec.name for spec in captured.outputs]
    reference = module_reference(captured.program.module(), captured.inputs, names, captured.program)
    for at in plan.proofs():
        inputs = sizes.sample(captured.inputs, at)
        yield GoldenCase(str(at), inputs, reference(inputs))


def _notes(captured: Captured, plan: sizes.Plan, planned: sizes.Plan, nhwc: Sequence[str]) -> Iterator[str]:
    if plan.batch is not None:
        yield (
            f"{plan.batch.name} is resized at run time (resize the input tensors, then allocate); it was compared "
            f"with the model at {', '.join(str(at[plan.batch.name]) for at in plan.proofs())}"
        )
    if plan.listed:
        names = " and ".join(dim.name for dim in plan.listed)
        why = ", since the batch does not resize" if planned.batch is not None and plan.batch is None else ""
        yield f"a signature for each size of {names}{why}: {len(plan.signatures)} in one file"
    if nhwc:
        yield f"the file takes {', '.join(nhwc)} with channels last; `mx run` transposes"
    narrowed = [spec.name for spec in (*captured.inputs, *captured.outputs) if spec.dtype == "int64"]
    if narrowed:
        yield f"{', '.join(narrowed)}: int64 in the model, int32 in the file"
