"""The quantization formats of checkpoints: what each is called, what it takes, and what it may lose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Format:
    """A format of quantized checkpoints.

    `preset` is ModelOpt's name of its configuration, `algorithm` what hf_quant_config.json calls it. `precision`
    picks the gate's budget, `ratio` is how much the perplexity may grow. `capability` is what a GPU must have at
    least, `gpus` that in words. `group`: input features of a layer must be a multiple of it. `saturates`: values
    of activations beyond those seen in calibration are cut off.
    """

    name: str
    preset: str
    algorithm: str
    precision: str
    ratio: float
    capability: tuple[int, int]
    gpus: str
    group: int = 1
    saturates: bool = True
    note: str = ""


#: the ratios are those of a model of 135M parameters, which loses more than large ones, rounded up
FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        each.name: each
        for each in (
            Format("fp8", "FP8_DEFAULT_CFG", "FP8", "fp8", 1.03, (8, 9), "Ada, Hopper or newer"),
            Format("nvfp4", "NVFP4_DEFAULT_CFG", "NVFP4", "nvfp4", 1.5, (10, 0), "Blackwell or newer", 16),
            Format(
                "int4-awq", "INT4_AWQ_CFG", "W4A16_AWQ", "int4", 1.3, (8, 0), "Ampere or newer", 128,
                saturates=False,
            ),
            Format(
                "w8a8-smoothquant", "INT8_SMOOTHQUANT_CFG", "W8A8_SQ_PER_CHANNEL", "int8", 1.15, (8, 0),
                "Ampere or newer", note="TensorRT-LLM 1.2 does not list w8a8-smoothquant among what its PyTorch "
                "backend loads: check that yours does",
            ),
        )
    }
)  # fmt: skip


#: what is said where a format's name is given and texts are not, and which texts to give
NO_TEXTS, SOME = "{} takes its scales from texts, and none are given", "a few dozen like those that it will see"


def of_algorithm(algorithm: str) -> Format | None:
    """The format that a checkpoint's `quant_algo` names; None for one that is not ours."""
    return next((each for each in FORMATS.values() if each.algorithm == algorithm), None)
