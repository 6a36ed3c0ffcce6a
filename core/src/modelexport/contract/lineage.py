"""What a step of a lineage says of that which it was made from."""

from __future__ import annotations

from dataclasses import dataclass

from ..typed import Format, Sha256


@dataclass(frozen=True)
class DrawnData:
    """The calibration data of a quantization: what the user named, and the sha256 over its samples."""

    ref: str
    fingerprint: Sha256


@dataclass(frozen=True)
class ScoreCode:
    """The user's function that scored a quantized copy, and the sha256 of the file that it is in."""

    name: str
    sha256: Sha256 | None = None


@dataclass(frozen=True)
class GoalKept:
    """What a quantized copy was judged by, and how much it might lose."""

    metric: str
    max_drop: float | None = None
    evaluate: ScoreCode | None = None


@dataclass(frozen=True)
class Origin:
    """A source or an artifact: where it was, its format, and the sha256 over what it held, where there is one."""

    ref: str | None = None
    format: Format | None = None
    fingerprint: Sha256 | None = None
    calibration: DrawnData | None = None
    goal: GoalKept | None = None
