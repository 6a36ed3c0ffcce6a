"""How much a quantized checkpoint loses on texts: its perplexity beside the source's, and how far it diverges."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelexport.contract import Score
from modelexport.errors import ParityError
from modelexport.toolkit import steps

from .formats import Format

if TYPE_CHECKING:
    from modelexport.contract import Arrays

#: token ids and mask, as tensors → logits
Model = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Loss:
    """What a copy lost against its source, over `tokens` predicted tokens of `texts` texts.

    `source` and `copy` are their perplexities, `kl` is the mean divergence of the copy's predictions in nats, and
    `top1` the share of tokens that both find likeliest alike.
    """

    source: float
    copy: float
    kl: float
    top1: float
    tokens: int
    texts: int

    @property
    def ratio(self) -> float:
        return self.copy / self.source

    def to_json(self, allowed: float, data: str) -> dict[str, Any]:
        return {**vars(self), "ratio": self.ratio, "max_ratio": allowed, "data": data}

    def score(self, data: str) -> Score:
        """The loss as a quantization report has it: the share of tokens that both find likeliest alike."""
        return Score("top1", 1.0, self.top1, 1.0 - self.top1, None, data, self.texts)

    def line(self, allowed: float, data: str) -> str:
        """What was found, for the user."""
        return (
            f"perplexity {self.source:.4g} → {self.copy:.4g} (ratio {self.ratio:.4f}, at most {allowed:g}), "
            f"KL {self.kl:.4f}, same likeliest token {self.top1:.1%}: {self.tokens} tokens of {self.texts} {data}"
        )


def measure(source: Model, copy: Model, samples: Sequence[Arrays]) -> Loss:
    """Both models on every sample; only tokens that follow another one count, and padding does not."""
    sums: dict[str, float] = {"source": 0.0, "copy": 0.0, "kl": 0.0, "top1": 0.0, "tokens": 0.0}
    for sample in steps(samples, "measure the perplexity"):
        for key, value in _sums(source, copy, sample).items():
            sums[key] += value
    count = max(sums["tokens"], 1.0)
    return Loss(
        math.exp(sums["source"] / count), math.exp(sums["copy"] / count), sums["kl"] / count, sums["top1"] / count,
        int(sums["tokens"]), len(samples),
    )  # fmt: skip


def _sums(source: Model, copy: Model, sample: Mapping[str, Any]) -> dict[str, float]:
    import torch

    ids = torch.from_numpy(sample["input_ids"])
    mask = torch.from_numpy(sample["attention_mask"]) if "attention_mask" in sample else torch.ones_like(ids)
    counted = (mask[:, 1:] * mask[:, :-1]).bool()
    one, other = (torch.log_softmax(each(ids, mask)[:, :-1].float(), -1)[counted] for each in (source, copy))
    chosen = ids[:, 1:][counted].unsqueeze(-1)
    return {
        "source": -float(one.gather(-1, chosen).sum()),
        "copy": -float(other.gather(-1, chosen).sum()),
        "kl": float((one.exp() * (one - other)).sum()),
        "top1": float((one.argmax(-1) == other.argmax(-1)).sum()),
        "tokens": float(counted.sum()),
    }


def check(loss: Loss, format: Format, allowed: float) -> None:
    """Raise ParityError for a loss above what is allowed, or that is no number."""
    if loss.ratio <= allowed:
        return
    raise ParityError(
        f"{format.name} takes the perplexity from {loss.source:.4g} to {loss.copy:.4g} on {loss.tokens} tokens: "
        f"{loss.ratio:.4f} times, {allowed:g} is allowed",
        "calibrate on texts like those that the model will see, take a format with more bits, or allow more with "
        "-k max-perplexity-ratio=",
    )
