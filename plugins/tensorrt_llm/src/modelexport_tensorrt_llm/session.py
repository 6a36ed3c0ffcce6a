"""A checkpoint → Session: by TensorRT-LLM where it is, else in PyTorch, computing what the files say."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelexport.contract import Session
from modelexport.errors import CannotRunHere, RuntimeFailure, first_line
from modelexport.toolkit import importable

from . import files, formats, model
from .serving import Serving

if TYPE_CHECKING:
    from modelexport.contract import Array, Artifact

    from . import RunOptions


def open_artifact(artifact: Artifact, options: RunOptions) -> Session:
    """Load the artifact's checkpoint. Raises CannotRunHere where TensorRT-LLM is asked for, and can't run it."""
    lacks = lacking() or _too_little(artifact) if options.runtime != "dequantized" else ""
    if options.runtime == "dequantized" or (lacks and options.runtime == "auto"):
        return _dequantized(artifact, options, lacks)
    if lacks:
        raise CannotRunHere(
            f"TensorRT-LLM can't run here: {lacks}", "-k runtime=dequantized computes what the checkpoint says"
        )
    return _tensorrt_llm(artifact)


def lacking() -> str:
    """What TensorRT-LLM takes and this machine has not, in words; empty where it can run."""
    if not importable("tensorrt_llm"):
        return "tensorrt_llm is not installed"
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver"
    return ""


def _too_little(artifact: Artifact) -> str:
    """Why the GPUs that are here can't run this checkpoint; empty where they can."""
    import torch

    needed = _serving(artifact).tp
    if (count := torch.cuda.device_count()) < needed:
        return f"it is spread over {needed} GPUs, {count} are here"
    format = formats.of_algorithm(files.quantization(artifact.entry_path).algorithm)
    has = torch.cuda.get_device_capability()
    if format is not None and has < format.capability:
        wanted, there = (".".join(map(str, each)) for each in (format.capability, has))
        return f"{format.name} takes compute capability {wanted} ({format.gpus}), this GPU has {there}"
    return ""


def _serving(artifact: Artifact) -> Serving:
    return Serving.from_json(artifact.details.get("serving", {}))


# --------------------------------------------------------------------------------------- PyTorch


def _dequantized(artifact: Artifact, options: RunOptions, lacks: str) -> Session:
    import torch

    if options.threads > 0:
        torch.set_num_threads(options.threads)
    loaded = model.load(artifact.entry_path, _serving(artifact).kv_cache)

    def call(inputs: Mapping[str, Array]) -> dict[str, Array]:
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        return {"logits": model.logits(loaded, tensors["input_ids"], tensors.get("attention_mask")).numpy()}

    note = f"TensorRT-LLM can't run here ({lacks}): computed in PyTorch from what the files say" if lacks else ""
    details = {"runtime": "dequantized"}
    return Session(call, artifact.inputs, artifact.outputs, details=details, note=note)


# --------------------------------------------------------------------------------------- TensorRT-LLM


def _tensorrt_llm(artifact: Artifact) -> Session:
    """The logits of the prompt, as TensorRT-LLM computes them; each row without its padding."""
    import numpy as np
    from tensorrt_llm import LLM, SamplingParams
    from tensorrt_llm.llmapi import KvCacheConfig

    served = _serving(artifact)
    try:
        # a block that is used again gives no logits for its tokens
        cache = KvCacheConfig(dtype=served.kv_cache, enable_block_reuse=False)
        runtime = LLM(model=str(artifact.entry_path), tensor_parallel_size=served.tp, kv_cache_config=cache)
    except Exception as error:
        raise RuntimeFailure(
            f"TensorRT-LLM can't load {artifact.entry_path}: {first_line(error)}",
            "-k runtime=dequantized computes what the checkpoint says",
        ) from error
    vocabulary = artifact.outputs[0].shape[-1]
    assert isinstance(vocabulary, int)
    wanted = SamplingParams(max_tokens=1, return_context_logits=True)

    def call(inputs: Mapping[str, Array]) -> dict[str, Array]:
        ids = inputs["input_ids"]
        kept = inputs.get("attention_mask", np.ones_like(ids)).astype(bool)
        prompts = [{"prompt_token_ids": row[mask].tolist()} for row, mask in zip(ids, kept, strict=True)]
        logits = np.zeros((*ids.shape, vocabulary), np.float32)
        for index, answer in enumerate(runtime.generate(prompts, wanted, use_tqdm=False)):
            own: Any = answer.context_logits
            logits[index, kept[index]] = own.float().cpu().numpy()[:, :vocabulary]
        return {"logits": logits}

    return Session(call, artifact.inputs, artifact.outputs, runtime.shutdown, {"runtime": "tensorrt-llm"})
