"""What the manifest says of a program: what a stranger's manifest is checked against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from modelexport.contract import Count, Positive


@dataclass(frozen=True)
class Delegated:
    """How many operators delegates compute, of how many."""

    operators: Count
    of: Count
    share: float


@dataclass(frozen=True)
class Bundle:
    """The program with test cases inside: its file, and the names of the cases."""

    file: Literal["model.bpte"]
    cases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Details:
    """`backend` are the delegates asked for, `delegates` those that compute parts, `kernels` what the rest calls.

    `bounds` are the largest sizes of open dims, which `memory` is planned for: bytes, one figure an arena.
    """

    backend: tuple[Literal["xnnpack", "coreml", "vulkan", "webgpu", "native", "portable"], ...] = ()
    bounds: Mapping[str, Positive] = field(default_factory=dict)
    delegates: Mapping[str, Count] = field(default_factory=dict)
    delegated: Delegated | None = None
    delegated_operators: Mapping[str, Count] = field(default_factory=dict)
    operators: Mapping[str, Count] = field(default_factory=dict)
    kernels: tuple[str, ...] = ()
    memory: tuple[Count, ...] = ()
    bundle: Bundle | None = None
