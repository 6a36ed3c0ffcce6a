"""Before and after ExecuTorch's lowering: bounds for open dims, state, and operators that the runtime lacks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modelexport.contract import Captured, Dim, TensorSpec, dims_of
from modelexport.errors import ConversionError, first_line
from modelexport.toolkit import module_path, recaptured, source_line

# --------------------------------------------------------------------------------------- bounds

#: the largest size of a batch, and of another dim, declared without one
BATCH, LENGTH = 32, 256


def open_dims(captured: Captured) -> list[Dim]:
    """Dims declared without an upper bound."""
    return [dim for dim in dims_of(captured.inputs) if dim.max is None]


def bounds(captured: Captured, bound: int | None) -> dict[str, int]:
    """The largest size of each open dim: `bound`, or what is usual. Raises ConversionError where none fits."""
    firsts = {spec.shape[0].name for spec in captured.inputs if spec.shape and isinstance(spec.shape[0], Dim)}
    found = {}
    for dim in open_dims(captured):
        usual = max(BATCH if dim.name in firsts else LENGTH, 8 * dim.min)
        found[dim.name] = (bound or usual) // dim.multiple * dim.multiple
        if found[dim.name] < dim.min:
            raise ConversionError(
                f"dim {dim.name} begins at {dim.min}, above -k bound={bound}",
                f"give a larger -k bound=, or --dim executorch.{dim.name}=LOW..HIGH",
            )
    return found


def bounded(captured: Captured, largest: Mapping[str, int]) -> Captured:
    """The program with open dims bounded; the same one where it has none."""
    if not largest:
        return captured
    try:
        return recaptured(captured, tuple(limited(spec, largest) for spec in captured.inputs))
    except Exception as error:
        names = ", ".join(largest)
        raise ConversionError(
            f"memory is planned for the largest sizes, and {names} can't be bounded: {first_line(error)}",
            f"declare bounds with --input, or --dim executorch.{names.partition(',')[0]}=SIZE",
        ) from error


def limited(spec: TensorSpec, largest: Mapping[str, int]) -> TensorSpec:
    """`spec` with its open dims bounded."""

    def limit(size: int | Dim) -> int | Dim:
        open_ended = isinstance(size, Dim) and size.max is None and size.name in largest
        return replace(size, max=largest[size.name]) if open_ended else size  # type: ignore[type-var, union-attr]

    return replace(spec, shape=tuple(limit(size) for size in spec.shape))


# --------------------------------------------------------------------------------------- rewrites

#: branches and loops: ExecuTorch's delegates don't look into them, nor does its lowering decompose what is there
_BRANCHING = ("cond", "while_loop", "map_impl", "scan")


def prepared(program: Any) -> Any:
    """A copy of a captured program without the operators that others can stand for. It stays as it is itself."""
    import torch
    from modelexport.toolkit import quiet

    used = {str(node.target) for node in calls(program.graph_module)}
    table: dict[Any, Callable[..., Any]] = {}
    if used & set(_BRANCHING):
        table |= torch.export.default_decompositions()
    for name, rewrite in _rewrites().items():
        packet, _, overload = name.partition(".")
        if f"aten.{name}" in used:
            table[getattr(getattr(torch.ops.aten, packet), overload)] = rewrite
    fresh = copy.deepcopy(program)
    if not table:
        return fresh
    with quiet("torch.fx", "torch._export"):
        return fresh.run_decompositions(table)


def _rewrites() -> dict[str, Callable[..., Any]]:
    """Operators that the runtime has no kernel for, written with those that it has."""
    import torch

    def round_decimals(x: Any, *, decimals: int) -> Any:
        return torch.round(x * 10.0**decimals) / 10.0**decimals

    def sort(x: Any, dim: int = -1, descending: bool = False) -> Any:
        return torch.topk(x, x.shape[dim], dim, largest=descending)

    def sort_stable(x: Any, *, stable: bool | None, dim: int = -1, descending: bool = False) -> Any:
        return NotImplemented if stable else sort(x, dim, descending)

    def argsort(x: Any, dim: int = -1, descending: bool = False) -> Any:
        return sort(x, dim, descending)[1]

    def shift_left(x: Any, other: Any) -> Any:
        return torch.bitwise_left_shift(x, other)

    return {
        "round.decimals": round_decimals,
        "sort.default": sort,
        "sort.stable": sort_stable,
        "argsort.default": argsort,
        "__lshift__.Scalar": shift_left,
    }


def without_idle_expands(module: Any) -> Any:
    """A pass: an `expand` to the size that there is copies on the CPU, and parts what a delegate could take."""
    from torch.fx.passes.infra.pass_base import PassResult

    idle = [node for node in module.graph.nodes if is_edge(node) and _is_idle_expand(node)]
    for node in idle:
        node.replace_all_uses_with(node.args[0])
        module.graph.erase_node(node)
    module.recompile()
    return PassResult(module, bool(idle))


def _is_idle_expand(node: Any) -> bool:
    if node.target._op.name() != "aten::expand_copy":
        return False
    before, after = (list(map(str, each.meta["val"].shape)) for each in (node.args[0], node))
    return before == after


# --------------------------------------------------------------------------------------- operators


@dataclass(frozen=True)
class Unsupported:
    """An operator that the runtime has no kernel for, and where the model uses it."""

    operator: str
    module: str
    line: str

    def __str__(self) -> str:
        return f"{self.operator} in {self.module}" + (f" at {self.line}" if self.line else "")

    @property
    def hint(self) -> str:
        name = self.operator.rpartition("::")[2].partition(".")[0]
        return HINTS.get(name, "")


#: operators people meet → what helps
HINTS = {
    "upsample_bicubic2d": "resize with mode='bilinear', or before the model",
    "histc": "compare with the bins' edges and sum",
    "sort": "torch.topk with k = the size sorts as well",
    "cumprod": "write x.log().cumsum().exp() for positive values",
    "adaptive_max_pool2d": "torch.nn.functional.max_pool2d with a window of its own",
    "rand_like": "take the random numbers as an input",
    "searchsorted": "compare with every border and sum: (x[..., None] >= borders).sum(-1)",
    "bucketize": "compare with every border and sum: (x[..., None] > borders).sum(-1)",
    "convolution over three dims": "convolutions over one and two dims have kernels",
    "_unique2": "find unique values outside of the model",
    "view_as_complex_copy": "compute with pairs of real numbers",
    "linalg_inv_ex": "invert the matrix outside of the model",
}


def calls(module: Any) -> Iterator[Any]:
    """Every call of an operator in a graph and in the graphs of its branches; delegates' insides left out."""
    import torch

    for node in module.graph.nodes:
        if node.op == "call_function":
            yield node
        elif node.op == "get_attr" and isinstance(
            inner := getattr(module, node.target, None), torch.fx.GraphModule
        ):
            yield from calls(inner)


def without_kernel(module: Any, missing: Iterable[str]) -> list[Unsupported]:
    """Where a finished program calls the kernels `missing`."""
    found: dict[str, list[Unsupported]] = {name: [] for name in missing}
    for node in calls(module):
        name = node.target.name() if hasattr(node.target, "overloadpacket") else ""
        if name in found:
            found[name].append(Unsupported(name, module_path(node), source_line(node)))
    places = {name: places or [Unsupported(name, "the model", "")] for name, places in found.items()}
    return list(dict.fromkeys(place for each in places.values() for place in each))


def without_out_variant(module: Any) -> list[Unsupported]:
    """Every call in an edge program that torch has no out variant of: the runtime calls nothing else."""
    found = []
    for node in calls(module):
        if str(node.target) == "with_effects":  # an operator that raises, say, called for that effect as well
            found.append(Unsupported(node.args[1].name(), module_path(node), source_line(node)))
        elif is_edge(node) and not _has_out(node.target):
            found.append(Unsupported(node.target._op.name(), module_path(node), source_line(node)))
    return list(dict.fromkeys(found))


def solid_convolutions(module: Any) -> list[Unsupported]:
    """Convolutions over three dims that no delegate took: the kernel that there is refuses them when it runs."""
    return [
        Unsupported("aten::convolution over three dims", module_path(node), source_line(node))
        for node in calls(module)
        if is_edge(node) and node.target._op.name() == "aten::convolution" and len(node.args[3]) == 3
    ]


def is_edge(node: Any) -> bool:
    """Whether a node of an edge program is a call of an operator that computes."""
    from executorch.exir.dialects.edge._ops import EdgeOpOverload

    return isinstance(node.target, EdgeOpOverload)


def _has_out(target: Any) -> bool:
    try:
        return target.to_out_variant() is not None
    except RuntimeError:
        return False


def refusal(missing: Sequence[Unsupported]) -> ConversionError:
    """All of them in one error."""
    listed = "; ".join(map(str, missing[:20])) + (f"; and {len(missing) - 20} more" if len(missing) > 20 else "")
    kinds = len({item.operator for item in missing})
    hints = list(dict.fromkeys(item.hint for item in missing if item.hint))
    return ConversionError(
        f"{kinds} operator{'s have' if kinds > 1 else ' has'} no kernel in ExecuTorch's runtime: {listed}",
        "; ".join(hints) or "replace them, or name those your own runtime has with -k custom-kernels=…",
    )
