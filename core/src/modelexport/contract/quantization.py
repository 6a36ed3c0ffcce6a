"""What quantization did to a model, layer by layer: plain data, alike for every target.

A target returns it as `Build.quantization`, the manifest keeps it, and `mx inspect --quantization` shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .. import typed


@dataclass(frozen=True)
class QuantizedLayer:
    """One operator that was quantized, or could have been.

    `precision` is what it computes in ("int8", "int8 weights", "float32"…). Ranges are those of the floating-
    point model: its weight's, and its input activation's over the calibration data. `sqnr` and `output_sqnr`
    are in dB: of the layer's own output, and of the model's outputs, with only this layer quantized; None where
    nothing was measured. `latency` is its share of the time of a call of the quantized model, `cost` what
    leaving it in floating point adds to that time (both 0 to 1), `bytes_saved` what its weight got smaller by.
    """

    name: str
    kind: str
    precision: str
    weight_range: tuple[float, float] | None = None
    activation_range: tuple[float, float] | None = None
    sqnr: float | None = None
    output_sqnr: float | None = None
    latency: float | None = None
    cost: float | None = None
    bytes_saved: int = 0
    note: str = ""


@dataclass(frozen=True)
class Trial:
    """One configuration that was tried: what it was, how far the score fell, and what became of it.

    `left` names the layers left at higher precision in it; `simulated` is True where the drop comes from the
    floating-point model with quantization simulated, not from the finished one. `latency` is relative to the
    artifact that was quantized.
    """

    what: str
    drop: float | None = None
    left: tuple[str, ...] = ()
    simulated: bool = False
    latency: Mapping[str, float] = field(default_factory=dict)
    size: int | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Score:
    """The accuracy of a finished copy, by `metric`, of which more is better.

    `baseline` is the score of the artifact that was quantized, `drop` how much less the copy has, `max_drop` how
    much less it may have, None where nothing was promised. `data` says in words what it was taken on, `samples` on
    how many of it. `figures` has every metric of every output, for people. A figure that is no finite number is
    None.
    """

    metric: str
    baseline: float | None
    score: float | None
    drop: float | None
    max_drop: float | None
    data: str
    samples: int
    figures: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether the copy lost no more than it may."""
        return self.max_drop is None or (self.drop is not None and self.drop <= self.max_drop)


@dataclass(frozen=True)
class QuantizationReport:
    """The whole account of one quantization.

    `mode` is the way it was done, `settings` the decisions made, whoever made them; `score` is measured by core on
    the finished copy, None where this machine can't run it. `calibrated`: ranges of activations come from the
    data.
    """

    mode: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[QuantizedLayer, ...] = ()
    trials: tuple[Trial, ...] = ()
    warnings: tuple[str, ...] = ()
    score: Score | None = None
    calibrated: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain data; a score that there is none of is an empty object."""
        return {**asdict(self), "score": {} if self.score is None else asdict(self.score)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> QuantizationReport:
        """The report that `to_json` gave. Raises ValueError, which names the place, for anything else."""
        report: QuantizationReport = typed.read(cls, {**data, "score": data.get("score") or None})
        return report
