"""The model with a forward that exporters and core can read: tensors in by name, a dict of tensors out.

A transformers forward takes two dozen optional arguments and returns an object. The loaded model is given a
subclass of its own class whose forward takes the inputs only and returns the task's tensors only. A subclass
rather than a module around it: parameters and submodules keep the names they have in the checkpoint, so
that `--weights` and error messages speak the same language.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import files
from .locate import Checkpoint

#: the output that holds one vector a text
EMBEDDING = "sentence_embedding"


def adapt(
    model: Any,
    inputs: Sequence[str],
    outputs: Sequence[str],
    pooling: Pooling | None = None,
    clears_padding: bool = False,
) -> Any:
    """`model`, its forward replaced: parameters are `inputs`, results those of `outputs` that it gives.

    With `pooling`, the sentence embedding comes first; with `clears_padding`, logits at padding are 0: what a
    model predicts there means nothing, and differs between runtimes that compute it and those that don't.
    """
    kind = type(model)
    names = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None) for name in inputs]
    signature = inspect.Signature([inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *names])

    def forward(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        arguments = signature.bind(self, *args, **kwargs).arguments
        del arguments["self"]
        returned, mask = kind.forward(self, **arguments, return_dict=True), arguments.get("attention_mask")
        tensors = {name: value for name in outputs if (value := getattr(returned, name, None)) is not None}
        if clears_padding and mask is not None:
            tensors["logits"] = tensors["logits"].masked_fill((mask == 0).unsqueeze(-1), 0.0)
        if pooling is None:
            return tensors
        return {EMBEDDING: pooling.pool(returned.last_hidden_state, mask), **tensors}

    forward.__signature__ = signature  # type: ignore[attr-defined]
    # named like its base, since transformers and the exporters' messages go by the class's name
    body = {"forward": forward, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    model.__class__ = type(kind.__name__, (kind,), body)
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    return model


def parameters(kind: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a model class's own forward, by name."""
    return dict(inspect.signature(kind.forward).parameters)


# --------------------------------------------------------------------------------------- sentence embeddings

#: pooling modes, in the order in which sentence-transformers concatenates them
_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens")


@dataclass(frozen=True)
class Pooling:
    """How sentence-transformers makes one vector of a text's token vectors."""

    modes: tuple[str, ...]
    normalize: bool

    def pool(self, tokens: Any, mask: Any) -> Any:
        """[batch, sequence, width] → [batch, width × modes]; padding, where `mask` is 0, does not count."""
        import torch

        ones = torch.ones(tokens.shape[:2], dtype=tokens.dtype, device=tokens.device)
        weights = (ones if mask is None else mask.to(tokens.dtype)).unsqueeze(-1)
        vectors = [self._one(mode, tokens, weights) for mode in self.modes]
        vector = vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=1)
        return torch.nn.functional.normalize(vector, p=2.0, dim=1) if self.normalize else vector

    @staticmethod
    def _one(mode: str, tokens: Any, weights: Any) -> Any:
        if mode == "cls":
            return tokens[:, 0]
        if mode == "max":
            return tokens.masked_fill(weights == 0, -1e9).amax(dim=1)
        count = weights.sum(dim=1).clamp(min=1e-9)
        return (tokens * weights).sum(dim=1) / (count if mode == "mean" else count.sqrt())


def pooling(checkpoint: Checkpoint) -> Pooling | None:
    """The pooling of a sentence-transformers folder; None for any other, or where it does something else too.

    Half of a pipeline would be a different embedding under the same name, so it is all of it or none. Raises
    SourceError where the folder's description of it is damaged.
    """
    modules = files.sentence_modules(checkpoint.root)
    if [name for name, _ in modules] not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return None
    file = checkpoint.root / modules[1][1] / files.CONFIG
    try:
        modes = _pooling_modes(files.read_json(file))
    except (AttributeError, TypeError) as error:
        raise files.damaged(file, error) from error
    if not modes or set(modes) - set(_MODES):
        return None
    return Pooling(tuple(mode for mode in _MODES if mode in modes), normalize=len(modules) == 3)


def _pooling_modes(config: dict[str, Any]) -> list[str]:
    """The modes that are on: flags `pooling_mode_X` (`pooling_mode_X_tokens`), or one key with their names."""
    if (named := config.get("pooling_mode")) is not None:
        return [named] if isinstance(named, str) else list(named)
    prefix = "pooling_mode_"
    on = [key.removeprefix(prefix) for key, value in config.items() if key.startswith(prefix) and value is True]
    short = {"cls_token": "cls", "max_tokens": "max", "mean_tokens": "mean"}
    return [short.get(mode, mode) for mode in on]
