"""Operators and models that TensorRT can't take, and how its parser's and builder's words are said in others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import modelexport_onnx.toolkit as onnx
from modelexport.errors import ConversionError, MxError
from modelexport.toolkit import listed


def check_parsed(parser: Any, model: Any, plugins: Sequence[str]) -> None:
    """Raise ConversionError for every operator that the parser refused, at once: node, module and source line.

    It knows operators by their names alone. So one of another domain that bears the name of one of ONNX's own is
    refused too, unless libraries of `plugins` bring kernels: it may compute something else.
    """
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    by_name = {node.name: node for node in onnx.nodes(model) if node.name}
    absent = {_named(by_name.get(e.node_name()), e): "" for e in errors if _absent(e)}
    foreign = {} if plugins else {_named(node): "" for node in onnx.foreign(model)}
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
    domain = "" if node.domain in onnx.STANDARD else f"{node.domain}::"
    place = onnx.place(node)
    return f"{domain}{node.op_type} (node {node.name!r}{', ' + place if place else ''})"


def _listed(reasons: Mapping[str, str]) -> str:
    return listed(f"{name}: {why}" if why else name for name, why in reasons.items())


#: the builder's own words → what they mean, what to try
_MEANINGS = (
    (
        r"operation '([^']*)' for Turing \(SM75\): (\w+) GEMM",
        "sm75 computes matrix products in half precision only, and node {0} is in {1}",
        "give --precision fp16, or leave sm75 out of sm=",
    ),
    (
        r"target\(s\) ([\w, ]+), because the model contains HW-specific datatypes: ([\w, ]+)",
        "{0} has no {1}, which the model computes in",
        "leave it out of sm=, or choose another --precision",
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
