"""Which options of `mx quantize` go together: what is wrong with them alone is said before any work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelexport.errors import OptionError

if TYPE_CHECKING:
    from . import QuantizeOptions

#: the preset whose models another runtime computes
TENSORRT = "tensorrt"

#: what TensorRT takes besides int8 with calibrated ranges, and what is for TensorRT only
TENSORRT_MODES = ("auto", "static", "fp8", "weight-only", "float16", "bfloat16")
TENSORRT_ONLY = ("fp8", "bfloat16")

#: modes that cast the model, and quantize nothing
HALVES = ("float16", "bfloat16")

#: weights that share a scale: what ONNX Runtime's MatMulNBits takes, and TensorRT's kernels
BLOCK_SIZES, TENSORRT_BLOCK_SIZES = (16, 32, 64, 128, 256), (64, 128)


def check(options: QuantizeOptions) -> None:
    """Raise OptionError for the first thing that is wrong."""
    for message, hint in _wrong(options):
        raise OptionError(message, hint)


def check_calibrated(options: QuantizeOptions, calibrated: bool) -> None:
    """Raise OptionError where calibration data is lacking that the mode takes ranges from."""
    static = "int8" if options.preset == TENSORRT else "static quantization"
    takes = {"static": static, "fp8": "fp8", "auto": static if options.preset == TENSORRT else ""}
    if not calibrated and (what := takes.get(options.mode)):
        raise OptionError(f"{what} takes the ranges of activations from data", "give --calibration")


def block_size(options: QuantizeOptions) -> int:
    """Weights that share a scale: as asked, or what is usual."""
    return options.block_size or (128 if options.preset == TENSORRT else 32)


def _wrong(options: QuantizeOptions) -> Iterator[tuple[str, str]]:
    """What is wrong, each with a hint."""
    mode, tensorrt = options.mode, options.preset == TENSORRT
    if not 0 < options.percentile <= 100:
        yield f"percentile={options.percentile:g} makes no sense", "give one up to 100, such as 99.99"
    if tensorrt and mode not in TENSORRT_MODES:
        yield f"TensorRT takes no {mode} int8", "leave --mode out: preset tensorrt is static"
    if not tensorrt and mode in TENSORRT_ONLY:
        yield f"mode {mode} is for TensorRT", f"give -k preset={TENSORRT}, or another mode"
    if not tensorrt and options.activations != "fp32":
        yield f"activations={options.activations} is for TensorRT", f"give -k preset={TENSORRT}, or leave it out"
    sizes = TENSORRT_BLOCK_SIZES if tensorrt else BLOCK_SIZES
    if block_size(options) not in sizes:
        yield f"there are no blocks of {options.block_size}", f"block-size is one of {', '.join(map(str, sizes))}"
    if tensorrt and mode == "weight-only" and options.bits != 4:
        yield f"TensorRT has no weights in blocks of {options.bits} bits", "give -k bits=4"
    if mode == "fp8" and options.calibrator == "entropy":
        yield "calibrator=entropy looks for ranges of 8-bit integers", "give minmax or percentile"
    if mode == "fp8" and (options.activation_type, options.weight_type) != ("auto", "auto"):
        yield "mode fp8 has no types of integers", "leave activation-type and weight-type out"
    if mode in HALVES and (options.exclude or options.op_types):
        yield f"mode {mode} takes no op-types or exclude", f"use mx optimize -k precision={mode}"
    if mode == "dynamic" and not_dynamic(options):
        yield "dynamic quantization has uint8 activations with zero points", "leave it at that"


def not_dynamic(options: QuantizeOptions) -> bool:
    """Whether activations are asked for that ONNX's DynamicQuantizeLinear doesn't know: other types, symmetric."""
    return options.activation_type not in ("auto", "uint8") or bool(options.symmetric)
