"""Which configurations to try: what was asked for, completed by what the hardware and the graph run fast.

A preset is hardware; a recipe is everything that has to be decided before a model can be quantized.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from modelexport.errors import OptionError

from . import machine

if TYPE_CHECKING:
    from .. import QuantizeOptions
    from .graph import Layer

Kind = Literal["dynamic", "static", "blockwise", "folded"]

#: what `dynamic` quantizes: a dynamically quantized convolution (ConvInteger) is 4 to 21 times slower than float
DYNAMIC = ("MatMul", "Gemm", "LSTM")

#: what ONNX Runtime's MatMulNBits takes
BLOCK_SIZES = (16, 32, 64, 128, 256)

#: what a recurrent or matrix model needs at least of all multiplications to count as one
MOSTLY = 0.5


@dataclass(frozen=True)
class Recipe:
    """One way to quantize, complete.

    `kind` is what happens: "dynamic" (activations when the model runs), "static" (ranges from calibration),
    "blockwise" (weights of MatMul in blocks, computed in 8 bits or float by ONNX Runtime's MatMulNBits) or
    "folded" (weights in 8 bits, computed in float). `fallback` is what the worst layers become in a search.
    `outputs`: what a layer gives has a scale too, and `products`: so has what a product of two activations takes.

    `write(model, left, ranges)` does instead of ONNX Runtime's quantizers what another runtime wants: it returns
    the model quantized but for the nodes `left`. `elsewhere` says that such a runtime is not here to be timed.
    """

    kind: Kind
    why: str = ""
    activation: str = "uint8"
    weight: str = "int8"
    per_channel: bool = True
    symmetric: bool = False
    reduce_range: bool = False
    format: str = "qdq"
    calibrator: str = "minmax"
    percentile: float = 99.99
    bits: int = 8
    block_size: int = 32
    smooth: bool = True
    embeddings: bool = True
    bias: bool = True
    weight_pairs: bool = False
    op_types: tuple[str, ...] = ()
    outputs: bool = True
    products: bool = True
    fallback: Literal["float", "blockwise"] = "float"
    write: Callable[[Any, Collection[str], Any], Any] | None = None
    elsewhere: bool = False

    @property
    def precision(self) -> str:
        if self.weight == "fp8":
            return "fp8"
        return "int4" if self.kind == "blockwise" and self.bits == 4 else "int8"


#: hardware → what differs from the defaults of a Recipe; the sources are in docs/how-to/quantize.md
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "x86-vnni": {},
    "x86": {"reduce_range": True},
    "arm64": {"activation": "int8", "symmetric": True},
    "tensorrt": {
        "kind": "static", "activation": "int8", "symmetric": True, "bias": False, "weight_pairs": True,
        "op_types": ("Conv", "ConvTranspose", "Gemm", "MatMul"), "outputs": False, "products": False,
        "smooth": True, "embeddings": False,
    },
}  # fmt: skip


def choose(options: QuantizeOptions, layers: Sequence[Layer], calibrated: bool) -> list[Recipe]:
    """The recipes to try, best first; one, unless the mode is `auto`.

    Raises OptionError where what was asked can't be, or needs calibration data that there is not.
    """
    _check(options)
    preset = machine.kind() if options.preset == "auto" else options.preset
    base = dict(PRESETS[preset])
    mode = base.pop("kind", options.mode) if options.mode == "auto" else options.mode
    if preset == "tensorrt" and mode != "static":
        raise OptionError(f"TensorRT takes no {mode} int8", "leave --mode out: preset tensorrt is static")
    if mode == "static" and not calibrated:
        raise OptionError("static quantization takes the ranges of activations from data", "give --calibration")
    recipes = _automatic(layers, calibrated) if mode == "auto" else [_asked(mode, options)]
    return [_complete(recipe, base, options) for recipe in recipes]


def _check(options: QuantizeOptions) -> None:
    if options.block_size not in BLOCK_SIZES:
        raise OptionError(
            f"there are no blocks of {options.block_size}",
            f"block-size is one of {', '.join(map(str, BLOCK_SIZES))}",
        )
    if not 0 < options.percentile <= 100:
        raise OptionError(f"percentile={options.percentile:g} makes no sense", "give one up to 100, such as 99.99")


def _asked(mode: str, options: QuantizeOptions) -> Recipe:
    if mode == "weight-only":
        return Recipe("blockwise", bits=options.bits, block_size=options.block_size)
    return Recipe("static" if mode == "static" else "dynamic", smooth=mode == "dynamic")


def _automatic(layers: Sequence[Layer], calibrated: bool) -> list[Recipe]:
    """What can be fast for this graph, and last what can't be slower: the same graph with folded weights."""
    total = sum(layer.macs for layer in layers) or 1
    share = {kind: sum(layer.macs for layer in layers if layer.kind == kind) / total for kind in DYNAMIC}
    matrices = sum(share.values())
    recipes = []
    if matrices >= MOSTLY:
        why = f"{matrices:.0%} of the multiplications are matrix products: activations are quantized as it runs"
        recipes.append(Recipe("dynamic", why, fallback="blockwise"))
        recipes.append(Recipe("blockwise", "matrix products with weights in 8 bits, in blocks", block_size=128))
    elif layers and calibrated:
        why = f"{1 - matrices:.0%} of the multiplications are convolutions: fast in int8 with calibrated ranges"
        recipes.append(Recipe("static", why, smooth=False))
    why = "weights in 8 bits, everything computed in float32"
    if layers and matrices < MOSTLY and not calibrated:
        why += ": convolutions are fast in int8 only with calibrated ranges (give --calibration)"
    return [*recipes, Recipe("folded", why, smooth=False)]


def _complete(recipe: Recipe, preset: Mapping[str, Any], options: QuantizeOptions) -> Recipe:
    """The recipe with the preset's decisions, and over them the user's own."""
    own = {
        "activation": None if options.activation_type == "auto" else options.activation_type,
        "weight": None if options.weight_type == "auto" else options.weight_type,
        "per_channel": options.per_channel,
        "symmetric": options.symmetric,
        "reduce_range": options.reduce_range,
        "smooth": options.smooth,
        "embeddings": options.embeddings,
        "op_types": options.op_types or None,
    }
    given = {key: value for key, value in own.items() if value is not None}
    made = replace(recipe, **{**preset, **given})
    if made.symmetric and "activation" not in given and made.activation == "uint8":
        made = replace(made, activation="int8")  # unsigned, zero would be 128
    made = replace(made, format=options.format, calibrator=options.calibrator, percentile=options.percentile)
    if made.kind == "dynamic" and made.activation != "uint8":
        # ONNX's DynamicQuantizeLinear knows no other type, and no symmetric ranges.
        if "activation" in given or given.get("symmetric"):
            raise OptionError("dynamic quantization has uint8 activations with zero points", "leave it at that")
        made = replace(made, activation="uint8", symmetric=False)
    return made
