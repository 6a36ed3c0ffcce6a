"""What the manifest says of an engine: what a stranger's manifest is checked against."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from modelexport.contract import Check, Count, Positive

#: a generation of GPUs: sm89
Generation = Annotated[str, Check("a generation of GPUs such as sm89", re.compile(r"sm\d{2,3}[a-z]?").fullmatch)]


@dataclass(frozen=True)
class Worst:
    """The output of the ONNX model that used up the most of its budget; see `Comparison`."""

    name: str
    case: str
    max_abs: float | None
    max_rel: float | None
    cosine: float | None
    used: float | None


@dataclass(frozen=True)
class Onnx:
    """What is proven of the ONNX model that went in, and why nodes of it stayed in float32."""

    precision: str
    verified: bool | str
    worst: Worst | None = None
    kept: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Details:
    """`flavour`, `sm`, `profiles`, `bounds` and `bytes` are what a session reads, the rest is for people.

    An engine is for the GPUs in `sm` and the sizes in `profiles`; `bounds` are the largest of open dims. `tensors`
    and `precisions` are the builder's words, `narrowed` dtypes that it computes in float32.
    """

    flavour: Literal["tensorrt", "tensorrt-rtx"]
    sm: tuple[Generation, ...]
    profiles: tuple[str, ...]
    bytes: Count
    bounds: Mapping[str, Positive] = field(default_factory=dict)
    narrowed: tuple[str, ...] = ()
    precisions: Mapping[str, Count] = field(default_factory=dict)
    build_seconds: float | None = None
    tensors: Mapping[str, str] = field(default_factory=dict)
    onnx: Onnx | None = None
