"""What the manifest says of a checkpoint: what a stranger's manifest is checked against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modelexport.contract import Count, Positive


@dataclass(frozen=True)
class Served:
    """What serve.yaml and serve.sh say; see `serving.Serving`."""

    command: str | None = None
    tp: Positive = 1
    kv_cache: Literal["auto", "fp8"] = "auto"
    max_batch_size: Positive | None = None
    max_seq_len: Positive | None = None


@dataclass(frozen=True)
class Perplexity:
    """What a quantized copy lost on texts, and how much it might; see `perplexity.Loss`."""

    source: float | None
    copy: float | None
    kl: float | None
    top1: float | None
    tokens: Count
    texts: Count
    ratio: float | None
    max_ratio: float
    data: str


@dataclass(frozen=True)
class Details:
    """`serving` is what a session and `mx quantize` read; `perplexity` what a quantized checkpoint lost."""

    serving: Served = Served()
    perplexity: Perplexity | None = None
