"""What the manifest says of a file: what a stranger's manifest is checked against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from modelexport.contract import Count, Name, Positive


@dataclass(frozen=True)
class Delegated:
    """How many operators of the first signature XNNPACK computes, in how many parts, and which are left."""

    operators: Count = 0
    of: Count = 0
    share: float = 0.0
    parts: Count = 0
    left: Mapping[str, Count] = field(default_factory=dict)


@dataclass(frozen=True)
class Details:
    """`signatures` and `nhwc` are what a session reads, the rest is for people.

    `signatures` are those of a file with one for each size: the sizes of its dims; `nhwc` the inputs with channels
    last; `io` says what a quantized file takes and gives, `processing` what lies behind the model in its file.
    """

    signatures: Mapping[str, Mapping[str, Positive]] = field(default_factory=dict)
    nhwc: tuple[Name, ...] = ()
    resized: str | None = None
    io: str | None = None
    operators: Mapping[str, Count] = field(default_factory=dict)
    not_built_in: tuple[str, ...] = ()
    delegated: Delegated | None = None
    weights: Mapping[str, Count] = field(default_factory=dict)
    file: Mapping[str, str] = field(default_factory=dict)
    processing: tuple[str, ...] = ()
