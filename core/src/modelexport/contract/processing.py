"""`processing`: how inputs are made of texts and images, and what outputs say.

Plain JSON that a source writes and every target carries along, so an artifact takes texts and images wherever its
runtime runs. It names no framework, and all of its parts are optional. `Artifact.processing` and
`Source.processing` are such data, and these records say what it may hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from ..typed import Check, InsidePath, Name, Positive

#: a token's number, in the dtypes that tokens have
Token = Annotated[int, Check("a token's number, below 2**31", lambda value: 0 <= value < 2**31)]

#: a side of an image; larger ones take gigabytes
Pixels = Annotated[int, Check("1 to 16384 pixels", lambda value: 1 <= value <= 1 << 14)]

#: what pixels are divided by
_Divisors = Annotated[tuple[float, ...], Check("numbers other than 0", lambda values: 0 not in values)]


@dataclass(frozen=True)
class TextInputs:
    """Token ids and what goes with them.

    `tokenizer` is a file of the artifact, for the `tokenizers` package; `inputs` says which field of an encoding
    each input holds. Texts of more than `max_length` tokens are cut, or where the model takes no more. Without
    a `pad_id`, texts of different lengths are refused.
    """

    tokenizer: InsidePath
    inputs: Mapping[str, Literal["ids", "attention_mask", "type_ids"]]
    pad_id: Token | None
    max_length: Positive | None = None
    pad_token: str | None = None
    pad_type_id: Token = 0
    padding_side: Literal["left", "right"] = "right"
    truncation_side: Literal["left", "right"] = "right"
    mask_token: str | None = None
    lowercase: bool = False


@dataclass(frozen=True)
class ShortestEdge:
    """The shorter side of an image after resizing, which keeps its proportions."""

    shortest_edge: Pixels


@dataclass(frozen=True)
class ImageInputs:
    """Pixels, in the order in which it is done: resized, cropped around the centre, scaled, normalised.

    What is None isn't done. `resample` is a Pillow filter; `mean` and `std` have a number for each channel of
    `color`.
    """

    input: Name
    size: tuple[Pixels, Pixels] | ShortestEdge | None
    crop: tuple[Pixels, Pixels] | None
    resample: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
    rescale: float | None
    mean: tuple[float, ...] | None
    std: _Divisors | None
    color: Literal["RGB", "BGR", "L"]
    layout: Literal["NCHW", "NHWC"]


def _channels_agree(image: ImageInputs) -> bool:
    """Whether there are as many means and deviations as channels, or one for all, or neither."""
    if image.mean is None or image.std is None:
        return image.mean is image.std
    return {len(image.mean), len(image.std)} <= {1, 1 if image.color == "L" else 3}


@dataclass(frozen=True)
class Processing:
    """`labels` are names along the last axis of an output, or of the only one; `scores` makes probabilities of it.

    `embedding` is the output that holds one vector a text; `left_out` says why a section isn't there.
    """

    task: str | None = None
    text: TextInputs | None = None
    image: Annotated[ImageInputs, Check("a mean and a std for each channel", _channels_agree)] | None = None
    labels: Mapping[str, tuple[str, ...]] | tuple[str, ...] = field(default_factory=dict)
    scores: Literal["softmax", "sigmoid", "none"] = "softmax"
    embedding: str | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
