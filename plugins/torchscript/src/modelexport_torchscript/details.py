"""What the manifest says of an archive: what a stranger's manifest is checked against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Details:
    """`at_load` says what a session does to the program that it has read: what PyTorch can compute, but not save.

    The rest is for people: how it was made, `mode`, and why; what it takes and gives, and its other methods; of an
    optimized one, what was `kept`, and each method's latencies relative to the model before.
    """

    mode: str | None = None
    why: str | None = None
    signature: str | None = None
    methods: tuple[str, ...] = ()
    kept: str | None = None
    ratios: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    at_load: tuple[Literal["optimize_for_inference"], ...] = ()
