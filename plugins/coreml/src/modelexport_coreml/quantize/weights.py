"""The constants of a package that are worth compressing, and their compression by coremltools."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from modelexport.errors import ConversionError

from ..backend import coremltools

if TYPE_CHECKING:
    from modelexport.contract import Array

    from .. import QuantizeOptions

#: values from which a constant is worth compressing
LARGE = 2048


@dataclass(frozen=True)
class Weight:
    """A constant of floats: its values, and type and name of the operator that reads it first.

    `kept` says why it is not compressed; it is empty where it is.
    """

    name: str
    values: Array
    kind: str
    reader: str = ""
    kept: str = ""


def constants(model: Any) -> list[Weight]:
    """The constants of floats in a package, of any size."""
    metadata = coremltools("optimize.coreml").get_weights_metadata(model, weight_threshold=1)
    return [_weight(name, constant) for name, constant in metadata.items() if constant.val.dtype.kind == "f"]


def _weight(name: str, constant: Any) -> Weight:
    readers = constant.child_ops
    kind, reader = (readers[0].op_type, readers[0].name) if readers else ("output", "")
    return Weight(name, constant.val, kind, reader)


def choose(every: Sequence[Weight], min_size: int | None, excluded: Collection[str]) -> list[Weight]:
    """The constants that are large enough to compress, those that are kept with the reason.

    Large enough are `min_size` values; where that is None 2048, or 1 where no constant has as many. Raises
    ConversionError where none is left to compress.
    """
    size = min_size
    if size is None:
        size = LARGE if any(weight.values.size >= LARGE for weight in every) else 1
    chosen = [replace(weight, kept=_kept(weight, excluded)) for weight in every if weight.values.size >= size]
    if all(weight.kept for weight in chosen):
        raise ConversionError(
            f"no constant of the model can be compressed: {len(chosen)} have {size} values or more",
            "give a smaller -k min-size=, and exclude less",
        )
    return chosen


def _kept(weight: Weight, excluded: Collection[str]) -> str:
    import numpy as np

    if not np.isfinite(weight.values).all():
        return "it holds infinities"
    if weight.name in excluded:
        return "excluded"
    return "" if weight.reader else "no operator reads it"


# --------------------------------------------------------------------------------------- compression


def compressed(model: Any, chosen: Sequence[Weight], options: QuantizeOptions, group_size: int) -> Any:
    """A copy of the model with the chosen constants compressed, but for those that are kept.

    A palette is made for each group of `group_size` channels, where that divides them; 0: one for each constant.
    """
    cto = coremltools("optimize.coreml")
    apply = getattr(cto, _FUNCTIONS[options.mode])
    usual = _configuration(options)
    grouped = _grouped(options, group_size) if options.mode == "palettize" and group_size else None
    config = cto.OptimizationConfig()
    for weight in chosen:
        if not weight.kept:
            fits = grouped is not None and weight.values.shape[0] % group_size == 0
            config.set_op_name(weight.name, grouped if fits else usual)
    return apply(model, config)


#: mode → coremltools' function for it
_FUNCTIONS = {
    "linear": "linear_quantize_weights",
    "activations": "linear_quantize_weights",
    "palettize": "palettize_weights",
    "prune": "prune_weights",
}


def _configuration(options: QuantizeOptions) -> Any:
    """coremltools' configuration for one constant. How large it is has been looked at before."""
    cto = coremltools("optimize.coreml")
    if options.mode == "palettize":
        return cto.OpPalettizerConfig(mode=options.algorithm, nbits=options.bits, weight_threshold=0)
    if options.mode == "prune":
        return cto.OpMagnitudePrunerConfig(target_sparsity=options.sparsity, weight_threshold=0)
    return cto.OpLinearQuantizerConfig(
        mode="linear_symmetric",
        dtype=f"int{options.bits}",
        granularity="per_block" if options.bits == 4 else "per_channel",
        block_size=options.block_size,
        weight_threshold=0,
    )


def _grouped(options: QuantizeOptions, group_size: int) -> Any:
    return coremltools("optimize.coreml").OpPalettizerConfig(
        mode=options.algorithm,
        nbits=options.bits,
        granularity="per_grouped_channel",
        group_size=group_size,
        channel_axis=0,
        weight_threshold=0,
    )
