"""What LiteRT and its converter can't take of a captured program, and how it is said."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from modelexport.contract import Captured
from modelexport.errors import ConversionError, first_line
from modelexport.toolkit import Unsupported, check_dtypes, refusal

#: dtypes that LiteRT's kernels don't compute in
_TOO_WIDE = ("float64", "complex128")

#: operators people meet, whether they have no translation or one that fails → what helps
HINTS = {
    "cond": "litert-torch takes no torch.cond: torch.where computes both sides",
    "while_loop": "litert-torch takes no loops from torch.export: unroll it",
    "nonzero": "the result of nonzero has a size that depends on the data: keep a fixed size and a mask",
    "masked_select": "the result of masked_select has a size that depends on the data: multiply by the mask",
    "_unique2": "the result of unique has a size that depends on the data: do it after the model",
    "linalg_inv": "LiteRT inverts no matrices: compute the inverse beforehand, or after the model",
}


def check(captured: Captured) -> None:
    """Raise ConversionError, before a long conversion, for a state or a dtype that the file can't hold."""
    if updated := list(dict.fromkeys(_updated(captured.program))):
        raise ConversionError(
            f"the model updates {', '.join(updated[:3])} in its forward, and the converter would freeze it",
            "make the state an input and an output",
        )
    check_dtypes(captured.inputs, captured.outputs, lambda dtype: dtype not in _TOO_WIDE, "LiteRT")


def _updated(program: Any) -> Iterator[str]:
    """Buffers that the program writes to, in place and through views of them."""
    signature = program.graph_signature
    yield from signature.buffers_to_mutate.values()
    buffers = dict(signature.inputs_to_buffers)
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is None or not node.args or not hasattr(node.args[0], "name"):
            continue
        buffer = buffers.get(node.args[0].name)
        if buffer is None:
            continue
        if schema.is_mutable:
            yield buffer
        elif any(result.alias_info is not None for result in schema.returns):
            buffers[node.name] = buffer


def refused(error: Exception, program: Any) -> ConversionError:
    """What to raise where litert-torch failed with `error`: operators without a translation are named all at once,
    with module and source line."""
    missing = unsupported(program) if "owering not found" in str(error) else []
    if missing:
        return refusal(missing, "no LiteRT translation", "replace them with operators that LiteRT has", HINTS)
    names = dict.fromkeys(Unsupported.at(node).name for node in _calls(program))
    hints = [HINTS[name] for name in names if name in HINTS]
    return ConversionError(
        f"litert-torch can't convert the model: {type(error).__name__}: {first_line(error)}",
        "; ".join(hints) or "--debug shows the whole trace, with the line of the model",
    )


def unsupported(program: Any) -> list[Unsupported]:
    """Every call of the program that the converter has no lowering for, asked of its own registry.

    The registry is private to litert-torch, which has no public query: it explains an export that failed, and
    decides about none.
    """
    from litert_torch import fx_infra
    from litert_torch.backend import lowerings

    table = fx_infra.decomp.pre_convert_decomp()
    lowered = fx_infra.safe_run_decompositions(copy.deepcopy(program), table, can_skip=False)
    return [Unsupported.at(node) for node in _calls(lowered) if not _has_lowering(node.target, lowerings.lookup)]


def _calls(program: Any) -> list[Any]:
    return [node for node in program.graph.nodes if node.op == "call_function"]


def _has_lowering(target: Any, lookup: Any) -> bool:
    """Whether the converter translates the call, or need not: checks, sizes, and what Python computes of these."""
    if getattr(target, "__module__", "") == "_operator":
        return True
    return any(text in str(target) for text in ("_assert", "sym_size")) or lookup(target) is not None
