"""A checkpoint as a PyTorch model in float32 that computes what the checkpoint's files say.

transformers builds the architecture and gets plain weights; what a format does to activations and to the cache
of keys and values is done around its layers. ModelOpt has no part in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelexport.errors import MxError, RuntimeFailure, first_line
from modelexport.toolkit import check_pretrained, listed

from . import dequantize, files
from .backend import silenced

#: the attention function that keeps keys and values in e4m3, as transformers knows it
_ATTENTION = "modelexport_fp8_cache"

#: tensors that an error names, at most
NAMED = 4

#: what a format stores beside the plain weights
_EXTRA = ("input_scale", "weight_scale", "weight_scale_2", "pre_quant_scale", "k_scale", "v_scale")


def load(folder: Path, kv_cache: str = "auto") -> Any:
    """The model in `folder`, in eval mode. `kv_cache="fp8"` keeps keys and values in e4m3, with or without scales.

    Raises RuntimeFailure where the files are damaged, don't fit each other, or hold a format that is not known.
    """
    quantization = files.quantization(folder)
    stored = files.tensors(folder)
    layers = {name: dequantize.layer(stored, name, quantization.algorithm) for name in dequantize.names(stored)}
    plain = {name: value for name, value in stored.items() if name.rpartition(".")[2] not in _EXTRA}
    plain |= {f"{name}.weight": layer.weight for name, layer in layers.items()}
    model = _built(folder, plain)
    for name, layer in layers.items():
        if layer.enter is not None:
            _submodule(model, name, folder).register_forward_pre_hook(_entering(layer.enter))
    if quantization.cache == "FP8" or kv_cache == "fp8":
        _quantize_cache(model, stored, folder)
    return model.eval()


def _built(folder: Path, state: Mapping[str, Any]) -> Any:
    """transformers' model with `state`; every weight must be there, and every tensor have a place."""
    import torch
    import transformers

    check_pretrained(folder)
    try:
        with silenced():
            config = transformers.AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            if hasattr(config, "quantization_config"):
                del config.quantization_config  # the weights are plain by now
            kind = getattr(transformers, (config.architectures or [""])[0], transformers.AutoModelForCausalLM)
            model, info = kind.from_pretrained(
                None, config=config, state_dict=dict(state), dtype=torch.float32, output_loading_info=True
            )
    except MxError:
        raise
    except Exception as error:
        raise RuntimeFailure(
            f"transformers can't load {folder}: {type(error).__name__}: {first_line(error)}",
            "make the checkpoint again, or upgrade transformers",
        ) from error
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(map(str, info[what])):
            raise RuntimeFailure(
                f"the tensors of {folder} are not those of {type(model).__name__}: {what.replace('_', ' ')} "
                f"{listed(names, NAMED)}",
                "make the checkpoint again",
            )
    return model


def _submodule(model: Any, name: str, folder: Path) -> Any:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise RuntimeFailure(
            f"{type(model).__name__} has no layer {name}, which {folder} has scales for",
            "this architecture's layers go by other names in checkpoints: run it with TensorRT-LLM",
        ) from error


def _entering(enter: dequantize.Change) -> Any:
    return lambda module, inputs: (enter(inputs[0]), *inputs[1:])


# --------------------------------------------------------------------------------------- keys and values


def _quantize_cache(model: Any, stored: Mapping[str, Any], folder: Path) -> None:
    """Attention with keys and values as e4m3 shows them, on the checkpoint's scales or on 1."""
    import torch
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if model.config._attn_implementation != "sdpa":
        raise RuntimeFailure(
            f"a cache of keys and values in fp8 can't be simulated for {type(model).__name__}",
            "run it with TensorRT-LLM, or leave kv-cache=auto",
        )
    one = torch.tensor(1.0)
    for name, scales in _cache_scales(stored).items():
        _submodule(model, name, folder).cache_scales = scales

    def attend(module: Any, query: Any, key: Any, value: Any, *arguments: Any, **keywords: Any) -> Any:
        for_key, for_value = getattr(module, "cache_scales", (one, one))
        key, value = dequantize.e4m3(key, for_key), dequantize.e4m3(value, for_value)
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, *arguments, **keywords)

    AttentionInterface.register(_ATTENTION, attend)
    AttentionMaskInterface.register(_ATTENTION, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model.set_attn_implementation(_ATTENTION)


def _cache_scales(stored: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Attention → the scales of its keys and of its values, which stand beside its projections."""
    by_attention: dict[str, dict[str, Any]] = {}
    for key, value in stored.items():
        layer, _, what = key.rpartition(".")
        if what in ("k_scale", "v_scale"):
            by_attention.setdefault(layer.rpartition(".")[0], {})[what] = value.float()
    return {name: (scales["k_scale"], scales["v_scale"]) for name, scales in by_attention.items()}


# --------------------------------------------------------------------------------------- use


def logits(model: Any, input_ids: Any, attention_mask: Any | None) -> Any:
    """[batch, sequence, vocabulary], 0 at padding: what a model predicts there means nothing."""
    import torch

    with torch.no_grad():
        answers = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
    if attention_mask is None:
        return answers
    return answers.masked_fill((attention_mask == 0).unsqueeze(-1), 0.0)
