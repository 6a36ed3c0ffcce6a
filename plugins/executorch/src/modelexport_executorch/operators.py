"""What ExecuTorch's runtime can't compute: operators without a kernel, dtypes that it has no tensors of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from modelexport.contract import Captured
from modelexport.errors import ConversionError
from modelexport.toolkit import Unsupported, check_dtypes, refusal

from . import graph

#: operators that people meet → what helps
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


def refused(missing: Sequence[Unsupported]) -> ConversionError:
    """The error that names all operators without a kernel, each with its place and what helps."""
    return refusal(
        missing,
        "no kernel in ExecuTorch's runtime",
        "replace them, or name those your own runtime has with -k custom-kernels=…",
        HINTS,
    )


def check_interface(captured: Captured) -> None:
    """Raise ConversionError for inputs and outputs that ExecuTorch has no type for."""
    check_dtypes(captured.inputs, captured.outputs, lambda dtype: not dtype.startswith("complex"), "ExecuTorch")


def without_kernel(module: Any, missing: Iterable[str]) -> list[Unsupported]:
    """Where a finished program calls the kernels `missing`; each is named, wherever it is called from."""
    places: dict[str, list[Unsupported]] = {name: [] for name in missing}
    for node in graph.calls(module):
        name = node.target.name() if hasattr(node.target, "overloadpacket") else ""
        if name in places:
            places[name].append(Unsupported.at(node, name))
    return [place for name, known in places.items() for place in known or [Unsupported(name)]]


def without_out_variant(module: Any) -> list[Unsupported]:
    """Every call in an edge program that torch has no out variant of: the runtime calls nothing else."""
    missing = []
    for node in graph.calls(module):
        if str(node.target) == "with_effects":  # an operator that raises, say, called for that effect as well
            missing.append(Unsupported.at(node, node.args[1].name()))
        elif graph.is_edge(node) and not _has_out(node.target):
            missing.append(Unsupported.at(node, node.target._op.name()))
    return missing


def solid_convolutions(module: Any) -> list[Unsupported]:
    """Convolutions over three dims that no delegate took: the kernel that there is refuses them when it runs."""
    return [
        Unsupported.at(node, "aten::convolution over three dims")
        for node in graph.calls(module)
        if graph.is_edge(node) and node.target._op.name() == "aten::convolution" and len(node.args[3]) == 3
    ]


def _has_out(target: Any) -> bool:
    try:
        return target.to_out_variant() is not None
    except RuntimeError:
        return False
