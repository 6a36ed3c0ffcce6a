"""The TensorRT-LLM target: Hugging Face language models as checkpoints that trtllm-serve loads.

export.py      a Hugging Face folder → checkpoint, with what serves it
quantize.py    a checkpoint that is not quantized → one that is
options.py     what can be wrong with options alone
writing.py     a checkpoint is written, and measured where it is quantized; what is said of it
modelopt.py    NVIDIA's ModelOpt, which quantizes a model by a recipe
account.py     what became of a checkpoint's layers
files.py       the checkpoint's folder: configuration, tensors, how they are quantized, what goes with them
formats.py     the quantization formats: what each takes, and what it may lose
texts.py       the user's texts, to calibrate on and to judge by
dequantize.py  what quantized tensors mean, read from the formats' definitions
model.py       a checkpoint as a PyTorch model that computes what the checkpoint says
perplexity.py  how much a quantized checkpoint loses on texts
serving.py     the configuration and the command that serve a checkpoint
engine.py      an engine, where an old trtllm-build still makes one
session.py     a checkpoint → Session, by TensorRT-LLM or on the CPU
backend.py     transformers and ModelOpt, kept off the terminal
details.py     what the manifest says beyond that, by which a stranger's is checked
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from modelexport.contract import Target, Verb, check_least, hookimpl, option

from . import options as checks
from .details import Details

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from modelexport.contract import Artifact, Build, Calibration, Goal, Session, Source

__version__ = "0.1.0"

__all__ = ["ExportOptions", "QuantizeOptions", "RunOptions"]


@dataclass(frozen=True)
class ExportOptions:
    """Options of `mx export -t tensorrt-llm`."""

    quantization: Literal["none", "fp8", "nvfp4", "int4-awq", "w8a8-smoothquant"] = option(
        "none", "the format of the weights, and of what they are multiplied with"
    )
    kv_cache: Literal["auto", "fp8"] = option(
        "auto", "the format of the cache of keys and values; auto: the model's dtype"
    )
    tp: int = option(1, "GPUs that one copy of the model is spread over")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = option(
        "auto", "dtype of what is not quantized; auto: the checkpoint's own"
    )
    calibration: str | None = option(None, "texts to quantize by: a .txt with one a line, a .jsonl or a .csv")
    column: str | None = option(None, "the column of a .jsonl or .csv that holds the texts")
    samples: int = option(
        128, "texts that are taken, at most; a quarter of them is held out to measure the loss on"
    )
    length: int = option(256, "tokens of a text, and tokens that are calibrated on at a time, at most")
    group_size: int = option(128, "weights that share a scale in int4-awq")
    max_perplexity_ratio: float | None = option(
        None, "how much the perplexity may grow on the held-out texts: 1.02 is 2 %; the format's own by default"
    )
    max_batch_size: int | None = option(None, "requests served at once; TensorRT-LLM's own by default")
    max_seq_len: int | None = option(None, "tokens of a request, prompt and answer; the model's own by default")
    engine: bool = option(False, "also build an engine, where a TensorRT-LLM before 1.2 has trtllm-build")

    def __post_init__(self) -> None:
        checks.check_export(self)


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of `mx quantize` for TensorRT-LLM checkpoints that are not quantized."""

    quantization: Literal["fp8", "nvfp4", "int4-awq", "w8a8-smoothquant"] = option(
        "fp8", "the format of the weights, and of what they are multiplied with"
    )
    kv_cache: Literal["auto", "fp8"] = option(
        "auto", "the format of the cache of keys and values; auto: as it was exported"
    )
    length: int = option(256, "tokens of a text, and tokens that are calibrated on at a time, at most")
    group_size: int = option(128, "weights that share a scale in int4-awq")
    max_perplexity_ratio: float | None = option(
        None, "how much the perplexity may grow on the held-out texts: 1.02 is 2 %; the format's own by default"
    )

    def __post_init__(self) -> None:
        checks.check_quantization(self)


@dataclass(frozen=True)
class RunOptions:
    """Options of `mx run`, `mx verify` and `mx benchmark` for TensorRT-LLM checkpoints."""

    runtime: Literal["auto", "tensorrt-llm", "dequantized"] = option(
        "auto",
        "tensorrt-llm; dequantized: PyTorch on the CPU, as the files say; auto: the first that can run here",
    )
    threads: int = option(0, "threads of PyTorch; 0 leaves it as it is")

    def __post_init__(self) -> None:
        check_least("threads", self.threads, 0)


_EXPORT = "pip install 'modelexport-tensorrt-llm[export]'"


@hookimpl
def mx_target() -> Target:
    return Target(
        name="tensorrt-llm",
        summary="checkpoints that TensorRT-LLM serves; run on the CPU, dequantized, where it is not",
        consumes=("module",),
        verbs={
            "export": Verb(
                ExportOptions,
                needs=("torch", "transformers", "modelopt"),
                install=_EXPORT,
                precisions={"bf16": {"dtype": "bfloat16"}, "fp16": {"dtype": "float16"}},
            ),
            "quantize": Verb(
                QuantizeOptions,
                needs=("torch", "transformers", "modelopt"),
                install=_EXPORT,
                precisions={
                    "fp8": {"quantization": "fp8"},
                    "nvfp4": {"quantization": "nvfp4"},
                    "int8": {"quantization": "w8a8-smoothquant"},
                    "int4": {"quantization": "int4-awq"},
                },
            ),
            "run": Verb(
                RunOptions, needs=("torch", "transformers"), install="pip install 'modelexport-tensorrt-llm[run]'"
            ),
        },
        details=Details,
    )


@hookimpl
def mx_check(options: Mapping[str, Any], source: Source | None) -> None:
    if source is not None and "export" in options:
        from . import export

        export.checked(source, options["export"])


@hookimpl
def mx_export(source: Source, out: Path, options: ExportOptions) -> Build:
    from . import export

    return export.export(source, out, options)


@hookimpl
def mx_quantize(
    artifact: Artifact, out: Path, options: QuantizeOptions, calibration: Calibration | None, goal: Goal | None
) -> Build:
    from . import quantize

    return quantize.quantize(artifact, out, options, calibration, goal)


@hookimpl
def mx_run(artifact: Artifact, options: RunOptions) -> Session:
    from . import session

    return session.open_artifact(artifact, options)
