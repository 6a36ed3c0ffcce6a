"""Which configurations to try: what was asked for, completed by what the hardware and the graph run fast.

A preset is hardware; a recipe is everything that has to be decided before a model can be quantized.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from modelexport.errors import OptionError

from .. import choices
from . import machine

if TYPE_CHECKING:
    from .. import QuantizeOptions
    from ..graph import Layer

Kind = Literal["dynamic", "static", "blockwise", "folded"]

#: what `dynamic` quantizes: a dynamically quantized convolution (ConvInteger) is 4 to 21 times slower than float
DYNAMIC = ("MatMul", "Gemm", "LSTM")

#: what a recurrent or matrix model needs at least of all multiplications to count as one
MOSTLY = 0.5


@dataclass(frozen=True)
class Recipe:
    """One way to quantize, complete.

    `kind` is what happens: "dynamic" (activations when the model runs), "static" (ranges from calibration),
    "blockwise" (weights of MatMul in blocks, computed in 8 bits or float by ONNX Runtime's MatMulNBits) or
    "folded" (weights in 8 bits, computed in float). `fallback` is what the worst layers become in a search.
    `outputs`: what a layer gives has a scale too, and `products`: so has what a product of two activations takes.

    `writer` is who quantizes: ONNX Runtime's quantizers, or what writes for a compiler, which knows weights and
    activations in float8, or weights in blocks behind a DequantizeLinear. `elsewhere` says that another runtime is
    to compute the model, which is not here to be timed.
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
    writer: Literal["onnxruntime", "float8", "blocks"] = "onnxruntime"
    elsewhere: bool = False

    @property
    def mode(self) -> str:
        """What it is called in reports."""
        return "fp8" if self.writer == "float8" else self.kind

    @property
    def precision(self) -> str:
        """The precision of what it makes, as budgets name it."""
        if self.weight == "fp8":
            return "fp8"
        return "int4" if self.kind == "blockwise" and self.bits == 4 else "int8"


#: hardware → what differs from the defaults of a Recipe; the sources are in docs/how-to/quantize.md
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "x86-vnni": {},
    "x86": {"reduce_range": True},
    "arm64": {"activation": "int8", "symmetric": True},
}

_INT8 = Recipe(
    "static", activation="int8", symmetric=True, bias=False, weight_pairs=True, embeddings=False, outputs=False,
    op_types=("Conv", "ConvTranspose", "Gemm", "MatMul"), products=False, elsewhere=True,
)  # fmt: skip

#: mode → what TensorRT takes
TENSORRT: Mapping[str, Recipe] = {
    "static": _INT8,
    "fp8": replace(_INT8, activation="fp8", weight="fp8", per_channel=False, smooth=False, writer="float8"),
    "weight-only": Recipe("blockwise", bits=4, smooth=False, embeddings=False, writer="blocks", elsewhere=True),
}


def choose(options: QuantizeOptions, layers: Sequence[Layer], calibrated: bool) -> list[Recipe]:
    """The recipes to try, best first; one, unless the mode is `auto`.

    Raises OptionError for one that needs calibration data that there is not.
    """
    choices.check_calibrated(options, calibrated)
    preset = machine.kind() if options.preset == "auto" else options.preset
    if preset == choices.TENSORRT:
        recipes = [TENSORRT["static" if options.mode == "auto" else options.mode]]
    else:
        recipes = _for_processor(options, layers, calibrated)
    return [_complete(recipe, PRESETS.get(preset, {}), options) for recipe in recipes]


def _for_processor(options: QuantizeOptions, layers: Sequence[Layer], calibrated: bool) -> list[Recipe]:
    if options.mode == "auto":
        return _automatic(layers, calibrated)
    if options.mode == "weight-only":
        return [Recipe("blockwise", bits=options.bits)]
    return [Recipe("static", smooth=False) if options.mode == "static" else Recipe("dynamic")]


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


def _embeddings(options: QuantizeOptions) -> bool | None:
    """Whether tables are stored in 8 bits, where the user says so: by the option, or among operators named."""
    if options.embeddings is not None or not options.op_types:
        return options.embeddings
    return "Gather" in options.op_types


def _complete(recipe: Recipe, preset: Mapping[str, Any], options: QuantizeOptions) -> Recipe:
    """The recipe with the preset's decisions, and over them the user's own."""
    asked = {
        "activation": None if options.activation_type == "auto" else options.activation_type,
        "weight": None if options.weight_type == "auto" else options.weight_type,
        "per_channel": options.per_channel,
        "symmetric": options.symmetric,
        "reduce_range": options.reduce_range,
        "smooth": options.smooth,
        "embeddings": _embeddings(options),
        "op_types": options.op_types or None,
        "block_size": choices.block_size(options) if options.mode == "weight-only" else None,
    }
    own = {key: value for key, value in asked.items() if value is not None}
    complete = replace(recipe, **{**preset, **own})
    if complete.symmetric and "activation" not in own and complete.activation == "uint8":
        complete = replace(complete, activation="int8")  # unsigned, zero would be 128
    if complete.kind == "dynamic" and complete.activation != "uint8":
        if choices.not_dynamic(options):
            raise OptionError("dynamic quantization has uint8 activations with zero points", "leave it at that")
        complete = replace(complete, activation="uint8", symmetric=False)
    return replace(complete, format=options.format, calibrator=options.calibrator, percentile=options.percentile)
