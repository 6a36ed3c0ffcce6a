"""What the manifest says of a package: what a stranger's manifest is checked against."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from modelexport.contract import Check, Count, Name, Positive

_SYSTEM = re.compile(r"iOS\d{2}|specification \d{1,4}")

#: the oldest system that a package runs on, or the number of a newer specification
System = Annotated[str, Check("a system such as iOS18", _SYSTEM.fullmatch)]

Scale = Annotated[float, Check("a number other than 0", bool)]
Bias = Annotated[tuple[float, ...], Check("one number, or one a channel", lambda values: len(values) in (1, 3))]


@dataclass(frozen=True)
class Image:
    """The input that takes an image: `scale` and `bias` make its numbers of pixels."""

    input: Name
    scale: Scale
    bias: Bias
    color: Literal["GRAYSCALE", "RGB", "BGR", ""]


@dataclass(frozen=True)
class Classifier:
    """The output with the probabilities, the name of the one with the likeliest class, and how many there are."""

    output: Name
    label: str | None = None
    labels: Count | None = None


@dataclass(frozen=True)
class Details:
    """`names` says what inputs and outputs are called in the package, `bounds` where open dims end.

    `compute_units` are the processors that Core ML may use; `weights` says how much of the model's is in the file
    as it was.
    """

    deployment_target: System = "iOS15"
    compute_precision: Literal["float32", "float16"] | None = None
    compute_units: Literal["all", "cpu-only", "cpu-and-gpu", "cpu-and-ne"] = "all"
    shapes: Literal["range", "enumerated"] = "range"
    bounds: Mapping[str, Positive] = field(default_factory=dict)
    names: Mapping[str, Name] = field(default_factory=dict)
    image: Image | None = None
    classifier: Classifier | None = None
    operators: Mapping[str, Count] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
