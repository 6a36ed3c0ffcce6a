"""Captured program → finished ExecuTorch program: bounded, rewritten, delegated, its kernels looked up.

Lowering changes the program that it is given, so a copy is lowered. Memory is planned for the largest size of
every dim, so open dims get a bound. A kernel that the runtime lacks would show only when the program loads, so
kernels are looked up here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from modelexport.contract import Captured
from modelexport.errors import ConversionError, first_line
from modelexport.toolkit import bounded, failed, matching, recaptured, stage, translated

from . import account, backend, delegates, operators, rewrites


def with_bounds(captured: Captured, largest: Mapping[str, int]) -> Captured:
    """The program captured again with its open dims bounded by `largest`; the same one where it has none.

    Raises ConversionError where torch.export can't bound them.
    """
    if not largest:
        return captured
    stage(f"capture again with {', '.join(largest)} bounded")
    try:
        return recaptured(captured, tuple(bounded(spec, largest) for spec in captured.inputs))
    except Exception as error:
        names = ", ".join(largest)
        raise ConversionError(
            f"memory is planned for the largest sizes, and {names} can't be bounded: {first_line(error)}",
            f"declare bounds with --input, or --dim executorch.{next(iter(largest))}=SIZE",
        ) from error


def lowered(
    source: Any, names: Sequence[str], custom: Sequence[str] = (), record: bool = False, fuse: bool = False
) -> tuple[Any, dict[str, Any]]:
    """The finished ExecuTorch program of the captured one `source`, and what the manifest says of it.

    `names` are delegates in order of preference; `source` stays as it is. With `fuse`, quantize and dequantize
    operators are fused with what no delegate took; with `record`, the program has an ETRecord. `custom` names
    kernels that are not the runtime's own. Raises ConversionError for operators without a kernel, all at once.
    """
    stage(f"lower for {', '.join(names) or delegates.PORTABLE}")
    with backend.hushed(), _plain_convolutions():
        edge = _edge(source, names, record)
        details = account.delegation(edge)
        if solid := operators.solid_convolutions(edge.exported_program().graph_module):
            raise operators.refused(solid)
        stage("plan the memory")
        program = _finished(edge, fuse)
    details["kernels"] = account.kernels(program.executorch_program)
    details["memory"] = account.memory(program.executorch_program)
    brought = matching(details["kernels"], custom, "custom-kernels", "operator of the program")
    missing = set(details["kernels"]) - backend.kernels(details["kernels"]) - brought
    if missing:
        module = program.exported_program().graph_module
        raise operators.refused(operators.without_kernel(module, sorted(missing)))
    return program, details


def _edge(source: Any, names: Sequence[str], record: bool) -> Any:
    """The edge program, its parts handed to delegates."""
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    hint = "try -k backend=portable, which lowers to no delegate; --debug shows the whole trace"
    with translated(failed(delegates.failure(names or [delegates.PORTABLE]), hint)):
        return to_edge_transform_and_lower(
            rewrites.rewritten(source),
            transform_passes=[rewrites.without_idle_expands],
            partitioner=delegates.partitioners(names),
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
            generate_etrecord=record,
        )


def _finished(edge: Any, fuse: bool) -> Any:
    """The ExecuTorch program of an edge program, its memory planned; state begins as the model has it."""
    from executorch.exir import ExecutorchBackendConfig
    from executorch.exir.passes.init_mutable_pass import InitializedMutableBufferPass

    signature = edge.exported_program().graph_signature
    mutated = set(signature.buffers_to_mutate.values())
    states = [node for node, buffer in signature.inputs_to_buffers.items() if buffer in mutated]
    config = ExecutorchBackendConfig(
        passes=[InitializedMutableBufferPass(states)] if states else [],
        do_quant_fusion_and_const_prop=fuse,
    )

    def refused(error: Exception) -> ConversionError:
        if missing := operators.without_out_variant(edge.exported_program().graph_module):
            return operators.refused(missing)
        return failed(delegates.failure(["its runtime"]), "--debug shows the whole trace")(error)

    with translated(refused):
        return edge.to_executorch(config)


@contextmanager
def _plain_convolutions() -> Iterator[None]:
    """PyTorch without its fast convolutions.

    They are chosen by batch size: tracing one fixes the batch's bounds to those that it was chosen for.
    """
    import torch

    before = torch.backends.nnpack.set_flags(False)
    try:
        with torch.backends.mkldnn.flags(enabled=False):
            yield
    finally:
        torch.backends.nnpack.set_flags(*before)
