"""Models of transformers, one for each architecture: shrunk, with random weights, saved, exported and checked.

    python tests/coverage/architectures.py [--shard I/N] [--only NAME] [--json FILE]

Each is built from its default configuration with small sizes, saved as a folder, and exported from there like
anybody's checkpoint, at a dynamic batch and (for text) sequence. See outcomes.py for what becomes of it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import outcomes
import torch
from modelexport.contract import Artifact, LoadOptions
from outcomes import Outcome, Probe

PIXELS = "pixel_values:float32[batch=1..4,3,32,32]"

#: sizes for every configuration that has them; each architecture's own come on top (None: leave it)
SMALL = {
    "vocab_size": 99, "max_position_embeddings": 64, "hidden_size": 32, "embedding_size": 32,
    "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "sliding_window": 16, "image_size": 32, "patch_size": 8, "num_labels": 7,
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """Model types that load as the same kind of model, each with the sizes of its own."""

    kind: str
    types: dict[str, dict[str, Any]] = field(default_factory=dict)


STAGES = {"depths": [1, 1], "hidden_sizes": [16, 32]}
WINDOWS = {
    "depths": [1, 2],
    "num_heads": [2, 4],
    "embed_dim": 16,
    "window_size": 4,
    "patch_size": 2,
    "num_attention_heads": None,
}

FAMILIES = (
    Family(
        "AutoModelForSequenceClassification",
        {
            "albert": {},
            "bert": {},
            "big_bird": {"attention_type": "original_full"},
            "camembert": {},
            "convbert": {},
            "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
            "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
            "distilbert": {"hidden_dim": 64},
            "electra": {},
            "ernie": {},
            "fnet": {},
            "funnel": {
                "num_hidden_layers": None,
                "block_sizes": [1, 1],
                "d_model": 32,
                "n_head": 4,
                "d_head": 8,
                "d_inner": 64,
            },
            "longformer": {"attention_window": 8},
            "megatron-bert": {},
            "mobilebert": {"intra_bottleneck_size": 16, "true_hidden_size": 16},
            "modernbert": {"local_attention": 16},
            "mpnet": {},
            "nystromformer": {"num_landmarks": 8, "segment_means_seq_len": 64},
            "rembert": {"input_embedding_size": 32, "output_embedding_size": 32},
            "roberta": {},
            "roformer": {},
            "squeezebert": {},
            "xlm-roberta": {},
        },
    ),
    Family(
        "AutoModel",
        {
            "bloom": {},
            "falcon": {"head_dim": None},
            "gemma": {},
            "gemma2": {},
            "gemma3_text": {},
            "gpt2": {},
            "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "window_size": 16},
            "gpt_neox": {},
            "gptj": {"rotary_dim": 4},
            "llama": {},
            "mamba": {"state_size": 4},
            "mistral": {},
            "mixtral": {"num_local_experts": 4},
            "olmo2": {},
            "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
            "phi": {},
            "qwen2": {},
            "qwen3": {},
            "stablelm": {},
            "t5": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2},
        },
    ),
    Family(
        "AutoModelForImageClassification",
        {
            "beit": {},
            "bit": {**STAGES, "embedding_size": 16, "num_groups": 4},
            "convnext": {**STAGES, "num_stages": 2},
            "convnextv2": {**STAGES, "num_stages": 2},
            "deit": {"architectures": ["DeiTForImageClassification"]},
            "dinov2": {},
            "efficientnet": {"width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320},
            "focalnet": {"depths": [1, 1], "embed_dim": 16, "hidden_sizes": [16, 32], "patch_size": 2},
            "mobilenet_v2": {"depth_multiplier": 0.25},
            "mobilevit": {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32]},
            "poolformer": {"depths": [1] * 4, "hidden_sizes": [8, 16, 24, 32]},
            "regnet": {**STAGES, "embedding_size": 16, "groups_width": 8},
            "resnet": {**STAGES, "embedding_size": 16},
            "segformer": {"depths": [1] * 4, "hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 2, 2, 4]},
            "swin": WINDOWS,
            "swinv2": WINDOWS,
            "vit": {},
        },
    ),
)


def build(kind: str, model_type: str, sizes: dict[str, Any]) -> Any:
    """A small model, drawn so that attention is not flat, no bias is zero, and no image is like another.

    Statistics of batch norms are those of noise, as training would leave them: without, activations die out.
    """
    import transformers

    default = transformers.AutoConfig.for_model(model_type)
    small = {name: value for name, value in SMALL.items() if getattr(default, name, None) is not None}
    chosen = {name: value for name, value in (small | sizes).items() if value is not None}
    config = transformers.AutoConfig.for_model(model_type, **chosen)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"):
        if (getattr(config, name, None) or 0) >= SMALL["vocab_size"]:
            setattr(config, name, 0)
    torch.manual_seed(0)
    model = getattr(transformers, kind).from_config(config)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=1 / math.sqrt(math.prod(parameter.shape[1:])))
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
        if model.main_input_name == "pixel_values":
            model.train()(torch.randn(16, 3, 32, 32))
    return model.eval()


def probe(folder: Path, kind: str, artifact: Artifact) -> Probe:
    """The model loaded once more, by transformers alone, at sizes the gate did not try; two tokens are padding."""
    import transformers

    model = getattr(transformers, kind).from_pretrained(folder).eval()
    torch.manual_seed(1)
    ids = torch.randint(1, SMALL["vocab_size"], (3, 13))
    mask = torch.ones_like(ids)
    mask[1, -2:] = 0
    values = {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": torch.zeros_like(ids),
        "pixel_values": torch.randn(3, 3, 32, 32),
    }
    given = {spec.name: values[spec.name] for spec in artifact.inputs}
    with torch.no_grad():
        returned = model(**given)
    return Probe("on 3 × 13 tokens" if "input_ids" in given else "on 3 images", list(given.values()),
                 [returned[spec.name] for spec in artifact.outputs])  # fmt: skip


def entries() -> list[tuple[str, str, dict[str, Any]]]:
    found = [(family.kind, name, sizes) for family in FAMILIES for name, sizes in family.types.items()]
    return sorted(found, key=lambda entry: entry[1])


def run(chosen: list[tuple[str, str, dict[str, Any]]]) -> Iterator[Outcome]:
    from transformers.utils import logging

    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with outcomes.exporter() as exporter, TemporaryDirectory(prefix="mx-coverage-") as scratch:
        for kind, name, sizes in chosen:
            folder = Path(scratch) / name
            model = build(kind, name, sizes)
            model.save_pretrained(folder)
            inputs = (PIXELS,) if model.main_input_name == "pixel_values" else ()
            yield exporter.outcome(
                f"{name} ({type(model).__name__})",
                lambda folder=folder: str(folder),
                lambda artifact, folder=folder, kind=kind: probe(folder, kind, artifact),
                LoadOptions(inputs=inputs),
            )


def main() -> None:
    options = outcomes.arguments(__doc__)
    index, count = options.shard
    outcomes.collect(run([entry for entry in entries()[index::count] if options.only in entry[1]]), options.json)


if __name__ == "__main__":
    main()
