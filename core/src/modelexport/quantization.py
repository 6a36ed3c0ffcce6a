"""What quantization did to a model, layer by layer: plain data, alike for every target.

A target's `mx_quantize` returns it as `Build.details["quantization"]` (see `Report.to_json`), the manifest
keeps it, and `mx inspect --quantization` shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from .errors import ArtifactError
from .types import Artifact, Build


@dataclass(frozen=True)
class Layer:
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
class Report:
    """The whole account. `settings` are the decisions made, whoever made them; `score` the accuracy measured on
    the finished model: metric, baseline, score, drop, max_drop and the data it was taken on."""

    mode: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    trials: tuple[Trial, ...] = ()
    warnings: tuple[str, ...] = ()
    score: Mapping[str, Any] = field(default_factory=dict)
    calibrated: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        given = {name: data[name] for name in (f.name for f in fields(cls)) if name in data}
        given["layers"] = tuple(Layer(**_pairs(layer)) for layer in data.get("layers", ()))
        given["trials"] = tuple(
            Trial(**{**trial, "left": tuple(trial["left"])}) for trial in data.get("trials", ())
        )
        given["warnings"] = tuple(data.get("warnings", ()))
        return cls(**given)


def _pairs(layer: Mapping[str, Any]) -> dict[str, Any]:
    ranges = {key: tuple(layer[key]) for key in ("weight_range", "activation_range") if layer.get(key) is not None}
    return {**layer, **ranges}


def report_of(artifact: Artifact) -> Report:
    """The report an artifact carries. Raises ArtifactError where it carries none."""
    data = artifact.details.get("quantization")
    if not isinstance(data, Mapping):
        raise ArtifactError(f"{artifact.path} is not quantized", "quantize it with `mx quantize`")
    return Report.from_json(data)


def report_in(build: Build, options: Any) -> Report:
    """The report that a target returned; a bare one where it returned none."""
    data = build.details.get("quantization")
    if isinstance(data, Mapping):
        return Report.from_json(data)
    return Report(str(getattr(options, "mode", build.precision)))
