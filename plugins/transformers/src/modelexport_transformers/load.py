"""From a folder to a Source: the model at float32 with the task's head, its inputs, and its processing.

A head whose weights the checkpoint lacks would be random, and its export perfectly faithful to nothing: it
is refused. The folder's own code is never run, and nothing is fetched.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from modelexport.contract import Dim, LoadOptions, Source, TensorSpec
from modelexport.errors import MxError, SourceError, UnsafeFileError, first_line
from modelexport.toolkit import importable

from . import forward, processing, tasks
from .locate import INSTALL, Found

#: tokens that a language model takes unless --input says otherwise: its logits are as wide as the vocabulary,
#: and the gate keeps those of every position
LONGEST = 256

_OWN_CODE = "write a file.py:factory that builds the model, and export that"


def load(found: Found, options: LoadOptions) -> Source:
    """The Source in a folder. Raises SourceError saying what is missing, unknown or not supported."""
    task = tasks.check(options.task) if options.task else None
    for module in ("transformers", "torch"):
        if not importable(module):
            raise SourceError(f"loading {found.ref} needs {module}", INSTALL)
    with _quiet():
        try:
            return _load(found, task, options)
        except MxError:
            raise
        except Exception as error:
            raise SourceError(
                f"transformers can't load {found.ref}: {type(error).__name__}: {first_line(error)}",
                "check that the folder is complete, or upgrade transformers; --debug shows the whole trace",
            ) from error


def _load(found: Found, task: str | None, options: LoadOptions) -> Source:
    _refuse(found)
    architectures = list(found.config.get("architectures") or ())
    task = task or tasks.of_architecture(architectures)
    config = _config(found)
    kind = tasks.model_class(task, config.model_type, architectures)
    main = _main_input(kind, task)
    model, outputs = _model(found, kind, config, task, options.weights is not None)
    data = processing.Processing({"task": task})
    pooling = None
    if main == "input_ids":
        specs = _text_inputs(found, model, data, LONGEST if task == tasks.GENERATION else None)
        pooling = forward.pooling(found) if task == tasks.FEATURES and "last_hidden_state" in outputs else None
    else:
        specs = _image_inputs(found, model, data, bool(options.inputs))
    if pooling is not None:
        data.data["embedding"] = forward.EMBEDDING
    if task.endswith("-classification"):
        processing.describe_labels(data, config)
    taken = forward.parameters(kind)
    declared = [name for text in options.inputs if (name := TensorSpec.parse(text).name) in taken]
    names = list(dict.fromkeys([*(spec.name for spec in specs), *declared])) or [main]
    return Source(
        forward.adapt(model, names, outputs, pooling, clears_padding=task == tasks.GENERATION),
        inputs=specs,
        processing=data.data,
        files=data.files,
        path=found.folder,
        ref=found.ref,
        name=found.name,
    )


# --------------------------------------------------------------------------------------- the model


def _refuse(found: Found) -> None:
    """Raise SourceError for models that only their own code can build, and for quantized checkpoints."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    kind, architectures = found.config.get("model_type"), found.config.get("architectures") or ()
    foreign = kind not in CONFIG_MAPPING_NAMES or not any(hasattr(transformers, name) for name in architectures)
    if "auto_map" in found.config and foreign:
        raise SourceError(
            f"{found.ref} comes with code of its own, which is never run: transformers "
            f"{transformers.__version__} does not know {', '.join(architectures) or kind}",
            _OWN_CODE,
        )
    if kind is not None and kind not in CONFIG_MAPPING_NAMES:
        raise SourceError(
            f"transformers {transformers.__version__} knows no model type {kind!r}",
            "upgrade with `pip install -U transformers`, or write a file.py:factory",
        )
    quantized = found.config.get("quantization_config")
    if quantized is not None or (found.folder / "hf_quant_config.json").is_file():  # ModelOpt's, in either place
        method = quantized.get("quant_method", "unknown") if isinstance(quantized, dict) else "modelopt"
        raise SourceError(
            f"the weights of {found.ref} are quantized already ({method})",
            "export the float checkpoint, and quantize the artifact with `mx quantize`",
        )


def _config(found: Found) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(found.folder, local_files_only=True, trust_remote_code=False)


def _main_input(kind: Any, task: str) -> str:
    """`input_ids` or `pixel_values`. Raises SourceError for models that take both, neither, or a decoder's."""
    names = forward.parameters(kind)
    if "decoder_input_ids" in names or "decoder_attention_mask" in names:
        raise SourceError(f"{kind.__name__} is an encoder and a decoder, which is not supported", _OWN_CODE)
    found = [name for name in ("input_ids", "pixel_values") if name in names]
    if len(found) != 1:
        what = "takes both text and images" if found else "takes neither token ids nor pixels"
        raise SourceError(f"{kind.__name__} {what}, which is not supported for {task}", _OWN_CODE)
    return found[0]


def _model(found: Found, kind: Any, config: Any, task: str, foreign_weights: bool) -> tuple[Any, tuple[str, ...]]:
    """The model, complete, and the outputs to take from it.

    `foreign_weights` (`--weights`) will replace all of the checkpoint's, which then need not be there.
    """
    outputs = tasks.TASKS[task].outputs
    if foreign_weights:
        return _plain_attention(kind(config).eval()), outputs
    model, missing = _pretrained(found, kind, config)
    if missing and all("pooler" in name.split(".") for name in missing):
        # the usual case of a checkpoint trained without a pooler: the model has an output less
        outputs = tuple(name for name in outputs if name != "pooler_output")
        if outputs and "add_pooling_layer" in _constructor(kind):
            model, missing = _pretrained(found, kind, config, add_pooling_layer=False)
    if missing:
        listed = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        raise SourceError(
            f"{found.ref} has no weights for {listed}: as {kind.__name__} ({task}) it would answer at random",
            "give a checkpoint trained for that task, or the --task this one was trained for",
        )
    return _plain_attention(model), outputs


def _plain_attention(model: Any) -> Any:
    """`model` with attention written out where the fused kernel of torch does not survive an export.

    With local attention, a position far inside the padding sees nothing at all: the kernel answers zeros
    there, the exported formats a mean. With a learned position bias, torch.export records the kernel's memory
    layout, and the view that follows fits no decomposition of it (torch 2.13). Written out, attention gives
    the same everywhere else.
    """
    kinds = set(getattr(model.config, "layer_types", None) or ())
    local = kinds - {"full_attention"} or getattr(model.config, "sliding_window", None)
    biases = ("relative_position_bias", "relative_attention_bias")
    biased = any(bias in name for name in model.state_dict() for bias in biases)
    if local or biased:
        model.set_attn_implementation("eager")
    return model


def _constructor(kind: Any) -> Sequence[str]:
    import inspect

    return list(inspect.signature(kind.__init__).parameters)


def _pretrained(found: Found, kind: Any, config: Any, **more: Any) -> tuple[Any, list[str]]:
    """The model with the folder's weights, and the names of those it lacks. Raises UnsafeFileError."""
    import torch

    try:
        model, info = kind.from_pretrained(
            found.folder,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            weights_only=True,
            output_loading_info=True,
            **more,
        )
    except pickle.UnpicklingError as error:
        raise UnsafeFileError(
            f"the weights of {found.ref} are damaged, or hold more than tensors: only unpickling would read them, "
            "and run whatever code they hold",
            "save them as safetensors: model.save_pretrained(folder)",
        ) from error
    return model.eval(), sorted(info["missing_keys"])


# --------------------------------------------------------------------------------------- inputs


def _text_inputs(
    found: Found, model: Any, data: processing.Processing, most: int | None
) -> tuple[TensorSpec, ...]:
    """Token ids and what goes with them: what the tokenizer gives and the model takes, `most` tokens of them."""
    config, tokenizer = model.config, processing.tokenizer(found)
    types = getattr(config, "type_vocab_size", None)
    given = tokenizer.model_input_names if tokenizer is not None else processing.TEXT_INPUTS
    takes = forward.parameters(type(model))
    names = [name for name in processing.TEXT_INPUTS if name in takes and (name in given or name == "input_ids")]
    if types == 0 or (tokenizer is None and types in (None, 1)):  # nothing in the model depends on it
        names = [name for name in names if name != "token_type_ids"]
    embeddings = model.get_input_embeddings()
    vocabulary = int(getattr(embeddings, "num_embeddings", None) or config.vocab_size)
    positions = _positions(model)
    processing.describe_text(data, found, tokenizer, names, vocabulary, positions)
    longest = positions or (processing.token_limit(tokenizer) if tokenizer is not None else None)
    longest = min((limit for limit in (longest, most) if limit is not None), default=None)
    shape = (Dim("batch"), Dim("sequence", 1, longest))
    values: dict[str, Any] = {
        "input_ids": (0, vocabulary - 1),
        "attention_mask": "mask",
        "token_type_ids": (0, (types or 2) - 1),
    }
    return tuple(TensorSpec(name, "int64", shape, values[name]) for name in names)


def _positions(model: Any) -> int | None:
    """How many tokens the model has positions for, or None when that is unbounded.

    RoBERTa and its relatives count positions from the padding index up: of 514 rows, 512 can be used.
    """
    for name, module in model.named_modules():
        rows = getattr(module, "num_embeddings", None)
        if name.rpartition(".")[2] == "position_embeddings" and rows is not None:
            padding = module.padding_idx
            return int(rows) - (0 if padding is None else padding + 1)
    limit = getattr(model.config, "max_position_embeddings", None)
    return int(limit) if isinstance(limit, int) and limit > 0 else None


def _image_inputs(found: Found, model: Any, data: processing.Processing, declared: bool) -> tuple[TensorSpec, ...]:
    """Pixels, at the size the processor makes. Without one, `declared` inputs must say it."""
    channels = int(getattr(model.config, "num_channels", 3))
    processing.describe_image(data, found, channels)
    section = data.data.get("image")
    size = processing.image_size(section, model.config)
    if size is None:
        if declared:
            return ()
        raise SourceError(
            f"the image size that {found.ref} takes is written nowhere",
            f"declare it: --input 'pixel_values:float32[batch,{channels},224,224]'",
        )
    return (
        TensorSpec("pixel_values", "float32", (Dim("batch"), channels, *size), processing.pixel_range(section)),
    )


#: torchao, where it is installed, is imported by transformers, and warns of kernels for GPUs that it can't load
_NOISY = ("torchao", "torch.utils._pytree")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bars and reports off the terminal: what matters in them becomes an error."""
    from modelexport.toolkit import quiet

    with quiet(*_NOISY), _transformers_quiet():
        yield


@contextmanager
def _transformers_quiet() -> Iterator[None]:
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
