"""The operators that a program may call: those that compute, and do not reach for files, processes or code.

torch resolves the name of an operator attribute by attribute, from `torch`, `operator` or `math` on, and what
comes of it is called when the program runs: `torch.ops.load_library` as well as `torch.ops.aten.add.Tensor`.

Source: `torch/_export/serde/serialize.py` (`deserialize_operator`), torch 2.13.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from .refused import Refused

_OPERATOR = re.compile(r"torch\.ops\.([A-Za-z]\w*|_[a-z]\w*)\.(\w+)\.([A-Za-z]\w*)", re.ASCII)
_HIGHER_ORDER = re.compile(r"torch\.ops\.higher_order\.([a-z]\w*)", re.ASCII)
_VMAP = re.compile(r"torch\._functorch\.predispatch\.[a-z_]+", re.ASCII)

#: Python's own, which torch writes of arithmetic with sizes
_SIZES = frozenset(
    """
    _operator.eq _operator.ne _operator.le _operator.ge _operator.lt _operator.gt _operator.neg _operator.pos
    _operator.mul _operator.add _operator.sub _operator.floordiv _operator.mod _operator.pow _operator.truediv
    _operator.and_ _operator.or_ _operator.lshift _operator.rshift _operator.getitem math.trunc torch.sym_not
    torch.sym_int torch.sym_float torch.sym_ite torch.sym_max torch.sym_min torch.sym_sqrt torch._sym_sqrt
    """.split()  # noqa: SIM905  a paragraph, not a column
)

#: operators that take graphs
_GRAPHS = frozenset(
    """
    associative_scan auto_functionalized auto_functionalized_v2 cond flex_attention foreach_map hints_wrapper
    invoke_quant invoke_subgraph map_impl out_dtype scan strict_mode tag_activation_checkpoint while_loop
    while_loop_stack_output with_effects wrap wrap_activation_checkpoint wrap_with_autocast
    wrap_with_set_grad_enabled
    """.split()  # noqa: SIM905  a paragraph, not a column
)

#: libraries whose operators do nothing but compute, whatever text they take
_COMPUTING = frozenset(
    """
    aten prims export quantized _quantized quantized_decomposed torchao onednn mkldnn torchvision
    """.split()  # noqa: SIM905  a paragraph, not a column
)

#: libraries of PyTorch for its own use: compiled code's, other machines', storages past their ends
_INTERNAL = frozenset(
    """
    prim inductor inductor_prims static_runtime profiler debugprims c10d _c10d_functional rpc _test
    _c10d_functional_autograd symm_mem _dtensor _native debug_mode_ops mkl streaming fsdp load_library
    import_module
    """.split()  # noqa: SIM905  a paragraph, not a column
)

#: operators that compute, but on a file
_FILES = frozenset(("aten::from_file", "aten::save"))


@cache
def check_operator(name: str) -> None:
    """Raise Refused where `name` is no operator that only computes. One that is not known here can't be loaded."""
    if name in _SIZES:
        return
    if found := _HIGHER_ORDER.fullmatch(name):
        if found[1] not in _GRAPHS:
            raise Refused(f"the operator {name}")
    elif found := _OPERATOR.fullmatch(name):
        _check_registered(name, *found.groups())
    elif not (_VMAP.fullmatch(name) and _is_vmap(name)):
        raise Refused(f"the operator {name[:80]!r}")


def _check_registered(name: str, library: str, operator: str, overload: str) -> None:
    import torch

    qualified = f"{library}::{operator}"
    if library in _INTERNAL or qualified in _FILES:
        raise Refused(f"the operator {name}")
    packet = getattr(getattr(torch.ops, library), operator, None)
    found = getattr(packet, overload, None)
    if packet is None or found is None:
        return
    if not isinstance(found, torch._ops.OpOverload):
        raise Refused(f"the operator {name}")
    if library == "aten" and qualified not in _dispatched():  # those that TorchScript alone has
        raise Refused(f"the operator {name}")
    if library not in _COMPUTING and any(_names_something(argument.type) for argument in found._schema.arguments):
        raise Refused(f"the operator {name}, which takes text or objects")


@cache
def _dispatched() -> frozenset[str]:
    import torch

    return frozenset(name.partition(".")[0] for name in torch._C._dispatch_get_all_op_names())


def _names_something(kind: Any) -> bool:
    """Whether an argument of this type may name a file or a process, or be an object with methods."""
    return re.search(r"\b(str|Any|__torch__|PyObject)", str(kind)) is not None


def _is_vmap(name: str) -> bool:
    import types

    import torch._functorch.predispatch as home

    found = getattr(home, name.rpartition(".")[2], None)
    return isinstance(found, types.FunctionType) and found.__module__ == home.__name__
