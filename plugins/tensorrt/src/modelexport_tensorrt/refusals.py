"""What can't be built, said in words: before the builder is asked where that is known, from its log elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.errors import ConversionError, MxError, OptionError

from . import flavours, onnxfile
from .flavours import Flavour

if TYPE_CHECKING:
    from modelexport.contract import TensorSpec

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


#: types that TensorRT's inputs and outputs may have
_TYPES = ("float32", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool")


def check_types(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Raise ConversionError for an input or output of a type that TensorRT doesn't take or give."""
    for kind, specs in (("input", inputs), ("output", outputs)):
        for spec in specs:
            if spec.dtype not in _TYPES:
                raise ConversionError(
                    f"{kind} {spec.name!r} is {spec.dtype}, which TensorRT doesn't take or give",
                    f"cast it within the model: it takes {', '.join(_TYPES)}",
                )


def check_parsed(parser: Any, model: Any, plugins: Sequence[str]) -> None:
    """Raise ConversionError for every operator that the parser refused, at once: node, module and source line.

    It knows operators by their names alone. So one of another domain that bears the name of one of ONNX's own is
    refused too, unless libraries of `plugins` bring kernels: it may compute something else.
    """
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    by_name = {node.name: node for node in onnxfile.nodes(model) if node.name}
    absent = {_named(by_name.get(e.node_name()), e): "" for e in errors if _absent(e)}
    foreign = {} if plugins else {_named(node): "" for node in onnxfile.foreign(model)}
    absent |= foreign
    wrong = {_named(by_name.get(e.node_name()), e): _plain(e.desc()) for e in errors if not _absent(e)}
    if absent:
        kinds = sorted({name.partition(" (")[0] for name in absent})
        raise ConversionError(
            f"TensorRT has no {', '.join(kinds)}: {_listed(absent)}",
            "replace the operators in the model, or give kernels for them with -k plugins=LIBRARY.so"
            + ("; what was fused for ONNX Runtime, give unoptimized" if foreign else ""),
        )
    if wrong:
        symmetric = any("zero point" in text for text in wrong.values())
        raise ConversionError(
            f"TensorRT can't read the model: {_listed(wrong)}",
            "it takes symmetric quantization, without zero points: `mx quantize -k preset=tensorrt`"
            if symmetric
            else "change it in the model; --debug shows all that TensorRT said",
        )


def _absent(error: Any) -> bool:
    """Whether a parser's error says that there is no such operator, and not that it is used in a wrong way."""
    no_such = error.code().name == "UNSUPPORTED_NODE" or "Plugin not found" in error.desc()
    return bool(error.node_operator() and no_such)


def _named(node: Any, error: Any = None) -> str:
    """An operator with its node, module and source line, as far as they are known."""
    if node is None:
        return f"{error.node_operator() or 'the graph'} (node {error.node_name()!r})"
    domain = "" if node.domain in onnxfile.STANDARD else f"{node.domain}::"
    place = onnxfile.place(node)
    return f"{domain}{node.op_type} (node {node.name!r}{', ' + place if place else ''})"


def _listed(found: Mapping[str, str]) -> str:
    lines = [f"{name}: {why}" if why else name for name, why in found.items()]
    return "; ".join(lines[:_SHOWN]) + (f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else "")


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
    """What a builder that gave nothing said, in words."""
    text = next((line for line in errors if line.strip() and not _SPURIOUS.search(line)), "it does not say why")
    for pattern, message, hint in _MEANINGS:
        if match := re.search(pattern, text):
            return ConversionError(message.format(*match.groups()), hint)
    return ConversionError(f"TensorRT can't build the engine: {_plain(text)}", "--debug shows all that it said")


#: after any error, TensorRT complains that this machine has no driver
_SPURIOUS = re.compile(r"cudaError ?35|CUDA initialization failure")


def _plain(text: str) -> str:
    """TensorRT's first message of several, without the places in its own source."""
    lines = [
        line for line in text.splitlines() if not _SPURIOUS.search(line) and not line.startswith("Invalid Node")
    ]
    first = re.sub(r"^\S+: Error Code \d+: ", "", lines[0].strip() if lines else text)
    if inner := re.fullmatch(r"[A-Z][\w ]*\((.*)\)", first):
        first = inner[1]
    first = re.sub(r"^\[[^\]]*\] ", "", first)
    first = re.sub(r"\.? In \w+ at /\S+$", "", first)
    if asserted := re.fullmatch(r'Assertion failed: .*?(?:&& "(?P<text>.*)"|: (?P<rest>.*))', first):
        first = asserted["text"] or asserted["rest"]
    return first.strip()
