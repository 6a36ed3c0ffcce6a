"""Captured program → model.pte, through ExecuTorch.

Lowering changes the program that it is given, memory is planned for the largest size of every dim, and a kernel
that the runtime lacks shows only when it loads: so a copy is lowered, open dims get a bound, and kernels are
looked up here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Build, Captured, Dim
from modelexport.errors import ConversionError, MxError, is_disk_error
from modelexport.toolkit import quiet

from . import account, backends, lowering, session

if TYPE_CHECKING:
    from . import ExportOptions

FILE = "model.pte"

#: the captured program, for `mx quantize`; beside it what debugging takes
PROGRAM, RECORD = "source/captured.pt2", "source/etrecord.bin"


def export(captured: Captured, out: Path, options: ExportOptions) -> Build:
    """Write `model.pte` into `out`, and beside it what the options ask for.

    Raises OptionError for a backend that there isn't, ConversionError for everything else; operators without a
    kernel are listed all at once.
    """
    refuse(captured)
    opened = lowering.bounds(captured, options.bound)
    limited = lowering.bounded(captured, opened)
    program, details = lowered(limited.program, options.backend, options.custom_kernels, options.etrecord)
    _check_sizes(program, limited)
    (out / FILE).write_bytes(program.buffer)
    if options.keep_program or options.etrecord:
        (out / "source").mkdir()
    if options.keep_program:
        keep(captured.program, out)
    if options.etrecord:
        program.get_etrecord().save(str(out / RECORD))
    if options.bundle:
        from . import bundle

        details["bundle"] = bundle.write(program, limited, out)
    details |= {"backend": list(options.backend), "bounds": opened}
    notes = [f"{name} has no upper bound, and memory is planned for one: it is {b}" for name, b in opened.items()]
    notes = [f"{line} (-k bound=…)" for line in notes] + account.notes(details)
    return Build(FILE, ("torch", "executorch"), details=details, notes=tuple(notes))


def refuse(captured: Captured) -> None:
    """Raise ConversionError for inputs and outputs that ExecuTorch has no type for."""
    for kind, specs in (("input", captured.inputs), ("output", captured.outputs)):
        for spec in specs:
            if spec.dtype.startswith("complex"):
                raise ConversionError(
                    f"{kind} {spec.name!r} is {spec.dtype}, which ExecuTorch's kernels don't take",
                    "take and return pairs of real numbers instead: torch.view_as_complex, torch.view_as_real",
                )


def keep(program: Any, out: Path) -> None:
    """Save the captured program, which is all that quantization starts from."""
    import torch

    torch.export.save(program, out / PROGRAM)


def lowered(
    source: Any, backend: Sequence[str], custom: Iterable[str] = (), record: bool = False, fuse: bool = False
) -> tuple[Any, dict[str, Any]]:
    """The finished ExecuTorch program of a captured one, and what is to be said of it.

    `source` stays as it is. With `fuse`, quantize and dequantize operators are fused with what no delegate took.
    `custom` names kernels that are not the runtime's own. Raises ConversionError for operators without a kernel,
    all at once.
    """
    names = backends.checked(backend)
    with hushed(), _plain_convolutions():
        edge = _edge(source, names, record)
        details = account.delegation(edge)
        if solid := lowering.solid_convolutions(edge.exported_program().graph_module):
            raise lowering.refusal(solid)
        program = _finished(edge, fuse)
    details["kernels"] = account.kernels(program.executorch_program)
    details["memory"] = account.memory(program.executorch_program)
    missing = set(details["kernels"]) - session.kernels(details["kernels"]) - set(custom)
    if missing:
        raise lowering.refusal(lowering.without_kernel(program.exported_program().graph_module, sorted(missing)))
    return program, details


def _edge(source: Any, names: list[str], record: bool) -> Any:
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    try:
        return to_edge_transform_and_lower(
            lowering.prepared(source),
            transform_passes=[lowering.without_idle_expands],
            partitioner=backends.partitioners(names),
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
            generate_etrecord=record,
        )
    except MxError:
        raise
    except Exception as error:
        if is_disk_error(error):
            raise
        raise ConversionError(
            backends.failure(names or [backends.PORTABLE], error),
            "try -k backend=portable, which lowers to no delegate; --debug shows the whole trace",
        ) from error


def _finished(edge: Any, fuse: bool) -> Any:
    from executorch.exir import ExecutorchBackendConfig
    from executorch.exir.passes.init_mutable_pass import InitializedMutableBufferPass

    signature = edge.exported_program().graph_signature
    mutated = set(signature.buffers_to_mutate.values())
    states = [node for node, buffer in signature.inputs_to_buffers.items() if buffer in mutated]
    config = ExecutorchBackendConfig(
        passes=[InitializedMutableBufferPass(states)] if states else [],
        do_quant_fusion_and_const_prop=fuse,
    )
    try:
        return edge.to_executorch(config)
    except Exception as error:
        if is_disk_error(error):
            raise
        if missing := lowering.without_out_variant(edge.exported_program().graph_module):
            raise lowering.refusal(missing) from error
        raise ConversionError(backends.failure(["its runtime"], error), "--debug shows the whole trace") from error


@contextmanager
def _plain_convolutions() -> Iterator[None]:
    """PyTorch without its fast convolutions, which are chosen by batch size: tracing one fixes the batch's bounds
    to those it was chosen for."""
    import torch

    before = torch.backends.nnpack.set_flags(False)
    try:
        with torch.backends.mkldnn.flags(enabled=False):
            yield
    finally:
        torch.backends.nnpack.set_flags(*before)


def _check_sizes(program: Any, captured: Captured) -> None:
    """Raise ConversionError where memory is planned for less than the largest size of a dim."""
    (plan,) = program.executorch_program.execution_plan
    for spec, index in zip(captured.inputs, plan.inputs, strict=True):
        planned = plan.values[index].val.sizes
        for size, got in zip(spec.shape, planned, strict=True):
            largest = size.max if isinstance(size, Dim) else size
            if got < largest:
                name = size.name if isinstance(size, Dim) else str(size)
                raise ConversionError(
                    f"ExecuTorch took {name} of input {spec.name!r} for {got} at most, it goes to {largest}",
                    f"fix it: --dim executorch.{name}=SIZE",
                )


def hushed() -> Any:
    """Keep ExecuTorch's and torchao's warnings off the user's terminal."""
    logging.getLogger("torchao").setLevel(logging.ERROR)
    return quiet("torch.fx", "torch._export", "torch._dynamo", "torch.utils._pytree", "executorch", "root")
