"""What can't be built, said in words: before the builder is asked where that is known, from its log elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.errors import ConversionError, MxError, OptionError

from . import flavours, onnxfile
from .flavours import Flavour

if TYPE_CHECKING:
    from . import ExportOptions

#: operators listed in an error, at most
_SHOWN = 20


def check_options(options: ExportOptions, flavour: Flavour) -> None:
    """Raise OptionError for an option that does not go with the flavour, or with this machine."""
    only_full = {
        "timing-cache": (options.timing_cache is not None, "`mx run -k runtime-cache=` keeps what a GPU compiled"),
        "dla": (options.dla is not None, "TensorRT on a Jetson builds for its accelerator"),
        "version-compatible": (options.version_compatible, "build again with the other version: it takes seconds"),
    }
    if flavour.ahead:
        for name, (given, hint) in only_full.items():
            if given:
                raise OptionError(f"{flavour.name} has no {name}", f"leave it out; {hint}")
    for name, given in (("refit", options.refit), ("strip", options.strip)):
        if given and (lacks := flavours.lacking()):
            raise OptionError(
                f"{name}=true takes a GPU while the engine is built, and this machine has {lacks}",
                "leave it out, or build on a machine with a GPU",
            )
    if options.optimization_level is not None and not 0 <= options.optimization_level <= 5:
        raise OptionError(f"optimization-level={options.optimization_level} is out of range", "0 to 5")
    for path in options.plugins:
        if not Path(path).is_file():
            raise OptionError(f"plugins={path}: no such file", "give the path of a shared library")


def check_accelerator(builder: Any, dla: int | None) -> None:
    """Raise OptionError for a core of the deep learning accelerator that isn't there."""
    if dla is not None and not 0 <= dla < builder.num_DLA_cores:
        raise OptionError(
            f"dla={dla}: this machine has {builder.num_DLA_cores} cores of a deep learning accelerator",
            "leave it out: only Jetson modules have one",
        )


def check_static(wanted: str, found: str) -> None:
    """Raise OptionError where `wanted`, a precision that takes calibration, isn't what the ONNX model has."""
    if wanted != found:
        raise OptionError(
            f"precision={wanted}: the model computes in {found}, and {wanted} takes real inputs to calibrate with",
            f"mx export … -t tensorrt --precision {wanted} --calibration DATA, or `mx quantize` on the artifact",
        )


def already(wanted: str, found: str) -> OptionError:
    """For a model that has fewer bits than float32, and others than those asked for."""
    return OptionError(
        f"the model computes in {found}, and {wanted} starts from float32",
        "leave out -k precision=, or give the float32 model",
    )


def unsupported(parser: Any, model: Any) -> ConversionError:
    """Every operator that the parser refused, at once, each with its node, module and source line."""
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    by_name = {node.name: node for node in onnxfile.nodes(model) if node.name}
    listed = list(dict.fromkeys(_describe(error, by_name) for error in errors))
    kinds = {error.node_operator() for error in errors if _absent(error)}
    more = f"; and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    text = "; ".join(listed[:_SHOWN]) + more
    if not kinds:
        return ConversionError(f"TensorRT can't read the model: {text}", "change what it names, in the model")
    return ConversionError(
        f"TensorRT has no {', '.join(sorted(kinds))}: {text}",
        "replace the operators in the model, or give kernels for them with -k plugins=LIBRARY.so",
    )


def _absent(error: Any) -> bool:
    """Whether a parser's error says that there is no such operator, and not that it is used in a wrong way."""
    return error.code().name == "UNSUPPORTED_NODE" or "Plugin not found" in error.desc()


def _describe(error: Any, by_name: dict[str, Any]) -> str:
    name, operator = error.node_name(), error.node_operator()
    node = by_name.get(name)
    at = onnxfile.place(node) if node is not None else ""
    what = f"{operator} (node {name!r}{', ' + at if at else ''})"
    why = "" if _absent(error) else _plain(error.desc())
    return f"{what}: {why}" if why else what


#: the builder's own words → what they mean, what to try
_MEANINGS = (
    (
        r"operation '([^']*)' for Turing \(SM75\): (\w+) GEMM",
        "sm75 computes matrix products in half precision only, and node {0} is in {1}",
        "give -k precision=fp16, or leave sm75 out of sm=",
    ),
    (
        r"target\(s\) ([\w, ]+), because the model contains HW-specific datatypes: ([\w, ]+)",
        "{0} has no {1}, which the model computes in",
        "leave it out of sm=, or choose another -k precision=",
    ),
    (
        r"(libnvinfer_lean)",
        "a version-compatible engine takes TensorRT's lean runtime",
        "pip install tensorrt_lean",
    ),
)


def failure(errors: Sequence[str]) -> MxError:
    """What a builder that gave nothing said, in words; its follow-up lines are about the missing GPU, always."""
    real = [line for line in errors if not re.search(r"cudaError ?35|CUDA initialization failure", line)] or list(
        errors
    )
    text = next((line for line in real if line.strip()), "it says nothing about it")
    for pattern, message, hint in _MEANINGS:
        if match := re.search(pattern, text):
            return ConversionError(message.format(*match.groups()), hint)
    return ConversionError(f"TensorRT can't build the engine: {_plain(text)}", "--debug shows all that it said")


def _plain(text: str) -> str:
    """TensorRT's message without the places in its own source."""
    text = re.sub(r"^[\w:]+: Error Code \d+: ", "", text.strip().splitlines()[-1] if text.strip() else "")
    text = re.sub(r"^(\[\d+\] )?Assertion failed: [^:]*: ", "", text)
    text = re.sub(r"\[[\w./]+:\d+: [^\]]*\] ?", "", text)
    return re.sub(r"\.? In \w+ at /[^)]*", "", text).strip()
