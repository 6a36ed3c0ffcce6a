"""The builder's own account of an engine: its log at full detail → layers and tensors.

An engine can be deserialized on its GPU only. What the builder prints when it is done can be read anywhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from modelexport.contract import CompiledLayer

#: TensorRT's names of types; those of narrow ones first: a layer computes in the narrowest that goes in
_TYPES = {
    "FP4": "nvfp4",
    "Int4": "int4",
    "FP8": "fp8",
    "E8M0": "e8m0",
    "Int8": "int8",
    "BFloat16": "bfloat16",
    "Half": "float16",
    "Float": "float32",
    "Bool": "bool",
    "UInt8": "uint8",
    "Int32": "int32",
    "Int64": "int64",
}
_NARROWEST = ("FP4", "Int4", "FP8", "Int8", "BFloat16", "Half", "Float")

#: TensorRT's names of kinds of layers, in words
_KINDS = {
    "gemm": "matrix product",
    "correlation": "convolution",
    "kgen": "generated kernel",
    "runtime_fusion": "fused kernel",
    "shape_call": "shapes",
}

_LAYER = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*), (?P<rest>.*)$")
_TENSOR = re.compile(
    r"^ *Name: (?P<name>.*?), IOMode: (?P<mode>\w+), DataType: (?P<dtype>\w+), Dimensions: \[(?P<shape>[-\d,]*)\]"
    r"(?P<rest>.*)$"
)
_PROFILE = re.compile(r"MinShape: \[([-\d,]*)\], OptShape: \[([-\d,]*)\], MaxShape: \[([-\d,]*)\]")


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine; -1 is a dynamic size. `profiles`: (min, opt, max) shapes of an input."""

    name: str
    mode: str
    dtype: str
    shape: tuple[int, ...]
    profiles: tuple[tuple[tuple[int, ...], ...], ...] = ()

    def __str__(self) -> str:
        spans = [":".join("x".join(map(str, shape)) for shape in profile) for profile in self.profiles]
        return " ".join([self.mode, f"{self.dtype}[{','.join(map(str, self.shape))}]", *spans])


def layers(log: Iterable[str]) -> tuple[CompiledLayer, ...]:
    """The layers of the engine that `log` is of, in the order in which they run."""
    matches = (_LAYER.match(line) for line in _block(log, "Layers:"))
    return tuple(_layer(match) for match in matches if match)


def tensors(log: Iterable[str]) -> tuple[Tensor, ...]:
    """Inputs and outputs of the engine that `log` is of."""
    matches = (_TENSOR.match(line) for line in _block(log, "I/O Tensors:"))
    return tuple(_tensor(match) for match in matches if match)


def precisions(rows: Sequence[CompiledLayer]) -> dict[str, int]:
    """How many layers compute in each type, the most frequent first; those that only reckon sizes left out."""
    return dict(Counter(row.precision for row in rows if row.precision).most_common())


def _block(log: Iterable[str], title: str) -> list[str]:
    """The lines after `title`, up to the next empty one; of the last such block."""
    block: list[str] = []
    for message in log:
        lines = message.splitlines()
        for start in (number for number, line in enumerate(lines) if line.strip() == title):
            rest = lines[start + 1 :]
            block = rest[: rest.index("")] if "" in rest else rest
    return block


def _layer(match: re.Match[str]) -> CompiledLayer:
    rest = match["rest"]
    taken, _, written = rest.partition("], Outputs: [")
    datatypes = re.findall(r"Datatype: (\w+)", taken) or re.findall(r"Datatype: (\w+)", written)
    narrowest = next((name for name in _NARROWEST if name in datatypes), datatypes[0] if datatypes else "")
    sources = re.findall(r"\[ONNX Layer: ([^\]]*)\]", rest.partition("Metadata: ")[2])
    kind = "attention" if "_mha_" in match["name"] else _KINDS.get(match["kind"], match["kind"])
    return CompiledLayer(match["name"], kind, _TYPES.get(narrowest, narrowest), ", ".join(sources))


def _tensor(match: re.Match[str]) -> Tensor:
    profiles = tuple(tuple(map(_sizes, shapes)) for shapes in _PROFILE.findall(match["rest"]))
    dtype = _TYPES.get(match["dtype"], match["dtype"])
    return Tensor(match["name"], match["mode"].lower(), dtype, _sizes(match["shape"]), profiles)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(",") if size)
