"""Captured program → model.tflite, through litert-torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Build, Captured
from modelexport.errors import ConversionError, MxError, OptionError

from . import batch, flatbuffer, lowering, metadata, naming, session, sizes
from .flatbuffer import FILE

if TYPE_CHECKING:
    from modelexport.contract import Arrays

    from . import ExportOptions


def export(captured: Captured, out: Path, options: ExportOptions) -> Build:
    """Write `model.tflite` into `out`.

    Raises ConversionError: a dim that can't stay dynamic, operators without a translation (all at once), a state.
    """
    _refuse(captured)
    nhwc = _channels_last(captured, options)
    planned = sizes.plan(captured.inputs, captured.program)
    path = out / FILE
    plan = _converted(captured, planned, path, nhwc)
    model = flatbuffer.read(path)
    details = describe(path, model)
    if plan.listed:
        details["signatures"] = plan.signatures
    if plan.batch is not None:
        details["resized"] = plan.batch.name
    if nhwc:
        details["nhwc"] = list(nhwc)
    details["processing"] = metadata.append(path, captured.processing)
    notes = _notes(captured, plan, planned, nhwc)
    return Build(FILE, ("torch", "litert-torch", "ai-edge-litert"), details=details, notes=tuple(notes))


def describe(path: Path, model: Any) -> dict[str, Any]:
    """What `mx inspect` shows of a file: its operators, what XNNPACK computes, its weights and its interface."""
    from . import delegation

    interpreter = session.load(path)
    details: dict[str, Any] = {
        "operators": flatbuffer.operators(model, 0),
        "delegated": delegation.share(interpreter),
        "weights": flatbuffer.weights(model),
        "file": _interface(interpreter),
    }
    if others := flatbuffer.foreign(model):
        details["not_built_in"] = others
    return details


def _interface(interpreter: Any) -> dict[str, str]:
    """What the file itself takes and gives, in its own dtypes and sizes."""
    taken, given = session.details(interpreter)
    return {
        f"{kind} {name}": f"{detail['dtype'].__name__}{[int(size) for size in detail['shape_signature']]}"
        for kind, details in (("input", taken), ("output", given))
        for name, detail in details.items()
    }


def _refuse(captured: Captured) -> None:
    """What LiteRT can't hold, said before a long conversion."""
    if updated := _updated(captured.program):
        raise ConversionError(
            f"the model updates {', '.join(updated[:3])} in its forward, and the converter would freeze it",
            "make the state an input and an output",
        )
    wide = [spec.name for spec in (*captured.inputs, *captured.outputs) if spec.dtype in ("float64", "complex128")]
    if wide:
        raise ConversionError(
            f"{wide[0]!r} is float64, LiteRT computes in float32", "cast the model with .float()"
        )


def _updated(program: Any) -> list[str]:
    """Buffers that the program writes to, in place and through views of them."""
    signature = program.graph_signature
    buffers = dict(signature.inputs_to_buffers)
    found = list(signature.buffers_to_mutate.values())
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is None or not node.args or not hasattr(node.args[0], "name"):
            continue
        root = buffers.get(node.args[0].name)
        if root is None:
            continue
        if schema.is_mutable:
            found.append(root)
        elif any(result.alias_info is not None for result in schema.returns):
            buffers[node.name] = root
    return list(dict.fromkeys(found))


def _channels_last(captured: Captured, options: ExportOptions) -> tuple[str, ...]:
    if options.layout == "nchw":
        return ()
    images = tuple(s.name for s in captured.inputs if len(s.shape) == 4 and "float" in s.dtype)
    if not images:
        raise OptionError("-k layout=nhwc is for images, and no input has rank 4", "leave it out")
    return images


def _converted(captured: Captured, planned: sizes.Plan, path: Path, nhwc: Sequence[str]) -> sizes.Plan:
    """Convert as planned; where a batch can't be resized, with a signature for each size of it."""
    for plan in (planned, planned.unbatched) if planned.batch else (planned,):
        plan = plan() if callable(plan) else plan
        samples = {name: sizes.sample(captured.inputs, at) for name, at in plan.traces().items()}
        lowering.convert(captured, samples, path, nhwc)
        model = flatbuffer.read(path)
        naming.rename(model, captured.program)
        if plan.batch is not None:
            batch.free(model, plan.traced, plan.batch.sizes[0])
        flatbuffer.write(model, path)
        if plan.batch is None or _resizes(captured, plan, path, nhwc):
            return plan
    raise AssertionError("a plan without a batch needs no proof")


# --------------------------------------------------------------------------------------- proof


def _resizes(captured: Captured, plan: sizes.Plan, path: Path, nhwc: Sequence[str]) -> bool:
    """Whether the file computes what the program does at other sizes of the batch than it was converted at."""
    from modelexport.toolkit import module_reference

    names = [spec.name for spec in captured.outputs]
    truth = module_reference(captured.program.module(), captured.inputs, names, captured.program)
    try:
        with _session(captured, plan, path, nhwc) as copy:
            for at in sizes.proofs(plan):
                inputs = sizes.sample(captured.inputs, at)
                if not _alike(copy(inputs), truth(inputs)):
                    return False
    except MxError:
        return False
    return True


def _session(captured: Captured, plan: sizes.Plan, path: Path, nhwc: Sequence[str]) -> Any:
    from modelexport.contract import Artifact

    from . import RunOptions

    details = {"signatures": plan.signatures if plan.listed else {}, "nhwc": nhwc}
    artifact = Artifact(path.parent, "tflite", path.name, captured.inputs, captured.outputs, details=details)
    return session.open_artifact(artifact, RunOptions())


def _alike(got: Arrays, want: Arrays) -> bool:
    """Shapes right and values near: what is wrong about a batch is wrong by far, and the gate is stricter."""
    import numpy as np

    for name, right in want.items():
        found = got[name]
        if found.shape != right.shape:
            return False
        a, b = found.astype(np.float64), right.astype(np.float64)
        scale = np.abs(b[np.isfinite(b)]).max(initial=1e-3)
        half = right.dtype.itemsize == 2
        if not np.allclose(a, b, rtol=0, atol=(3e-2 if half else 1e-3) * scale, equal_nan=True):
            return False
    return True


def _notes(captured: Captured, plan: sizes.Plan, planned: sizes.Plan, nhwc: Sequence[str]) -> list[str]:
    notes = []
    if plan.batch is not None:
        notes.append(
            f"{plan.batch.name} is resized at run time (resize the input tensors, then allocate); it was compared "
            f"with the model at {', '.join(str(at[plan.batch.name]) for at in sizes.proofs(plan))}"
        )
    if plan.listed:
        what = " and ".join(dim.name for dim in plan.listed)
        why = ", since the batch does not resize" if planned.batch is not None and plan.batch is None else ""
        notes.append(f"a signature for each size of {what}{why}: {len(plan.signatures)} in one file")
    if nhwc:
        notes.append(f"the file takes {', '.join(nhwc)} with channels last; `mx run` transposes")
    narrowed = [s.name for s in (*captured.inputs, *captured.outputs) if s.dtype == "int64"]
    if narrowed:
        notes.append(f"{', '.join(narrowed)}: int64 in the model, int32 in the file")
    return notes
