"""The model in a folder: with the task's head, complete, at float32, and written so that it can be exported.

A head whose weights the checkpoint lacks would be random, and its export perfectly faithful to nothing: it
is refused. The folder's own code is never run, and nothing is fetched.
"""

from __future__ import annotations

import inspect
import pickle
from dataclasses import dataclass
from typing import Any

from modelexport.errors import SourceError, UnsafeFileError
from modelexport.toolkit import listed

from . import files, tasks
from .locate import Checkpoint

#: missing weights that the refusal names, at most
NAMED = 4

#: what helps where transformers alone can't build the model, or this source can't describe it
OWN_CODE = "write a file.py:factory that builds the model, and export that"


@dataclass(frozen=True)
class Loaded:
    """A model in eval mode, and the outputs to take from it."""

    module: Any
    outputs: tuple[str, ...]


def refuse_foreign(checkpoint: Checkpoint) -> None:
    """Raise SourceError for models that only their own code can build, and for quantized checkpoints."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    config = checkpoint.config
    kind, architectures = config.get("model_type"), config.get("architectures") or ()
    foreign = kind not in CONFIG_MAPPING_NAMES or not any(hasattr(transformers, name) for name in architectures)
    if "auto_map" in config and foreign:
        raise SourceError(
            f"{checkpoint.ref} comes with code of its own, which is never run: transformers "
            f"{transformers.__version__} does not know {', '.join(architectures) or kind}",
            OWN_CODE,
        )
    if kind is not None and kind not in CONFIG_MAPPING_NAMES:
        raise SourceError(
            f"transformers {transformers.__version__} knows no model type {kind!r}",
            "upgrade with `pip install -U transformers`, or write a file.py:factory",
        )
    quantized = config.get("quantization_config")
    if quantized is not None or (checkpoint.folder / files.QUANTIZATION).is_file():  # ModelOpt's, in either place
        method = quantized.get("quant_method", "unknown") if isinstance(quantized, dict) else "modelopt"
        raise SourceError(
            f"the weights of {checkpoint.ref} are quantized already ({method})",
            "export the float checkpoint, and quantize the artifact with `mx quantize`",
        )


def configuration(checkpoint: Checkpoint) -> Any:
    """The folder's configuration as an object of transformers."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=False)


def load(checkpoint: Checkpoint, kind: Any, config: Any, task: str, foreign_weights: bool) -> Loaded:
    """The model of class `kind`, complete, with the outputs of `task` that it has.

    `foreign_weights` (`--weights`) will replace all of the checkpoint's, which then need not be there. Raises
    SourceError where weights are missing, UnsafeFileError where only unpickling would read them.
    """
    outputs = tasks.TASKS[task].outputs
    if foreign_weights:
        return Loaded(_plain_attention(kind(config).eval()), outputs)
    module, missing = _pretrained(checkpoint, kind, config)
    if missing and all("pooler" in name.split(".") for name in missing):
        # the usual case of a checkpoint trained without a pooler: the model has an output less
        outputs = tuple(name for name in outputs if name != "pooler_output")
        if outputs and "add_pooling_layer" in inspect.signature(kind.__init__).parameters:
            module, missing = _pretrained(checkpoint, kind, config, add_pooling_layer=False)
    if missing:
        raise SourceError(
            f"{checkpoint.ref} has no weights for {listed(missing, NAMED)}: as {kind.__name__} ({task}) it would "
            "answer at random",
            "give a checkpoint trained for that task, or the --task this one was trained for",
        )
    return Loaded(_plain_attention(module), outputs)


def _pretrained(checkpoint: Checkpoint, kind: Any, config: Any, **more: Any) -> tuple[Any, list[str]]:
    """The model with the folder's weights, and the names of those it lacks. Raises UnsafeFileError."""
    import torch

    try:
        module, info = kind.from_pretrained(
            checkpoint.folder,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            weights_only=True,
            output_loading_info=True,
            **more,
        )
    except pickle.UnpicklingError as error:
        raise UnsafeFileError(
            f"the weights of {checkpoint.ref} are damaged, or hold more than tensors: only unpickling would read "
            "them, and run whatever code they hold",
            "save them as safetensors: model.save_pretrained(folder)",
        ) from error
    return module.eval(), sorted(info["missing_keys"])


def _plain_attention(module: Any) -> Any:
    """`module` with attention written out where the fused kernel of torch does not survive an export.

    With local attention, a position far inside the padding sees nothing at all: the kernel answers zeros
    there, the exported formats a mean. With a learned position bias, torch.export records the kernel's memory
    layout, and the view that follows fits no decomposition of it (torch 2.13). Written out, attention gives
    the same everywhere else.
    """
    kinds = set(getattr(module.config, "layer_types", None) or ())
    local = kinds - {"full_attention"} or getattr(module.config, "sliding_window", None)
    biases = ("relative_position_bias", "relative_attention_bias")
    biased = any(bias in name for name in module.state_dict() for bias in biases)
    if local or biased:
        module.set_attn_implementation("eager")
    return module
