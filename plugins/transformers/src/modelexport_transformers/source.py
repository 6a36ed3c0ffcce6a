"""From a folder to a Source: the model for its task, its inputs with their dims, and its processing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelexport.contract import Dim, LoadOptions, Source, TensorSpec, stage
from modelexport.errors import MxError, SourceError, first_line
from modelexport.toolkit import check_pretrained, importable

from . import files, forward, model, processing, tasks
from .backend import silenced
from .locate import INSTALL, Checkpoint
from .processing import Processing

#: tokens that a language model takes unless --input says otherwise: its logits are as wide as the vocabulary,
#: and the gate keeps those of every position
LONGEST = 256


@dataclass(frozen=True)
class _Inputs:
    """The inputs that were found, and how they are made of texts or images."""

    specs: tuple[TensorSpec, ...]
    processing: Processing


def load(checkpoint: Checkpoint, options: LoadOptions) -> Source:
    """The Source in a folder. Raises SourceError saying what is missing, unknown or not supported."""
    task = tasks.check(options.task) if options.task else None
    for module in ("transformers", "torch"):
        if not importable(module):
            raise SourceError(f"loading {checkpoint.ref} needs {module}", INSTALL)
    with silenced():
        try:
            return _load(checkpoint, task, options)
        except MxError:
            raise
        except Exception as error:
            raise SourceError(
                f"transformers can't load {checkpoint.ref}: {type(error).__name__}: {first_line(error)}",
                "check that the folder is complete, or upgrade transformers; --debug shows the whole trace",
            ) from error


def _load(checkpoint: Checkpoint, task: str | None, options: LoadOptions) -> Source:
    modules = (checkpoint.root / path for _, path in files.sentence_modules(checkpoint.root))
    for folder in {checkpoint.folder, checkpoint.root, *modules}:
        check_pretrained(folder)
    model.refuse_foreign(checkpoint)
    architectures = list(checkpoint.config.get("architectures") or ())
    task = task or tasks.of_architecture(architectures)
    config = model.configuration(checkpoint)
    kind = tasks.model_class(task, config.model_type, architectures)
    main = _main_input(kind, task)
    stage(f"load the weights of {checkpoint.ref}")
    loaded = model.load(checkpoint, kind, config, task, options.weights is not None)
    if main == "input_ids":
        inputs = _texts(checkpoint, loaded.module, LONGEST if task == tasks.GENERATION else None)
    else:
        inputs = _images(checkpoint, loaded.module, bool(options.inputs))
    pooling = _pooling(checkpoint, task, main, loaded.outputs)
    processed = (
        Processing({"task": task})
        | inputs.processing
        | Processing({"embedding": forward.EMBEDDING} if pooling is not None else {})
        | (processing.labels(config) if task.endswith("-classification") else Processing())
    )
    module = forward.adapt(
        loaded.module,
        _parameters(kind, inputs.specs, options.inputs) or [main],
        loaded.outputs,
        pooling,
        clears_padding=task == tasks.GENERATION,
    )
    return Source(
        module,
        inputs=inputs.specs,
        processing=processed.sections,
        files=processed.files,
        path=checkpoint.folder,
        ref=checkpoint.ref,
        name=checkpoint.name,
    )


def _main_input(kind: Any, task: str) -> str:
    """`input_ids` or `pixel_values`. Raises SourceError for models that take both, neither, or a decoder's."""
    names = forward.parameters(kind)
    if "decoder_input_ids" in names or "decoder_attention_mask" in names:
        raise SourceError(f"{kind.__name__} is an encoder and a decoder, which is not supported", model.OWN_CODE)
    taken = [name for name in ("input_ids", "pixel_values") if name in names]
    if len(taken) != 1:
        what = "takes both text and images" if taken else "takes neither token ids nor pixels"
        raise SourceError(f"{kind.__name__} {what}, which is not supported for {task}", model.OWN_CODE)
    return taken[0]


def _pooling(checkpoint: Checkpoint, task: str, main: str, outputs: Sequence[str]) -> forward.Pooling | None:
    """How one vector is made of a text's, where the folder says it and the task is to give vectors."""
    if task != tasks.FEATURES or main != "input_ids" or "last_hidden_state" not in outputs:
        return None
    return forward.pooling(checkpoint)


def _parameters(kind: Any, specs: Sequence[TensorSpec], declared: Sequence[str]) -> list[str]:
    """The inputs of the model's new forward: those found, and those of the user's that the model knows."""
    known = forward.parameters(kind)
    asked = [name for text in declared if (name := TensorSpec.parse(text).name) in known]
    return list(dict.fromkeys([*(spec.name for spec in specs), *asked]))


# --------------------------------------------------------------------------------------- inputs


def _texts(checkpoint: Checkpoint, module: Any, most: int | None) -> _Inputs:
    """Token ids and what goes with them: what the tokenizer gives and the model takes, `most` tokens of them."""
    config, tokenizer = module.config, processing.tokenizer(checkpoint)
    types = getattr(config, "type_vocab_size", None)
    offered = tokenizer.model_input_names if tokenizer is not None else processing.TEXT_INPUTS
    takes = forward.parameters(type(module))
    names = [name for name in processing.TEXT_INPUTS if name in takes and (name in offered or name == "input_ids")]
    if types == 0 or (tokenizer is None and types in (None, 1)):  # nothing in the model depends on it
        names = [name for name in names if name != "token_type_ids"]
    embeddings = module.get_input_embeddings()
    vocabulary = int(getattr(embeddings, "num_embeddings", None) or config.vocab_size)
    positions = _positions(module)
    longest = positions or (processing.token_limit(tokenizer) if tokenizer is not None else None)
    longest = min((limit for limit in (longest, most) if limit is not None), default=None)
    shape = (Dim("batch"), Dim("sequence", 1, longest))
    values: dict[str, Any] = {
        "input_ids": (0, vocabulary - 1),
        "attention_mask": "mask",
        "token_type_ids": (0, (types or 2) - 1),
    }
    specs = tuple(TensorSpec(name, "int64", shape, values[name]) for name in names)
    return _Inputs(specs, processing.texts(checkpoint, tokenizer, names, vocabulary, positions))


def _positions(module: Any) -> int | None:
    """How many tokens the model has positions for, or None when that is unbounded.

    RoBERTa and its relatives count positions from the padding index up: of 514 rows, 512 can be used.
    """
    for name, part in module.named_modules():
        rows = getattr(part, "num_embeddings", None)
        if name.rpartition(".")[2] == "position_embeddings" and rows is not None:
            padding = part.padding_idx
            return int(rows) - (0 if padding is None else padding + 1)
    limit = getattr(module.config, "max_position_embeddings", None)
    return int(limit) if isinstance(limit, int) and limit > 0 else None


def _images(checkpoint: Checkpoint, module: Any, declared: bool) -> _Inputs:
    """Pixels, at the size the processor makes. Raises SourceError without one, unless inputs are `declared`."""
    channels = int(getattr(module.config, "num_channels", 3))
    described = processing.images(checkpoint, channels)
    section = described.sections.get("image")
    size = processing.image_size(section, module.config)
    if size is None:
        if declared:
            return _Inputs((), described)
        raise SourceError(
            f"the image size that {checkpoint.ref} takes is written nowhere",
            f"declare it: --input 'pixel_values:float32[batch,{channels},224,224]'",
        )
    shape = (Dim("batch"), channels, *size)
    return _Inputs((TensorSpec("pixel_values", "float32", shape, processing.pixel_range(section)),), described)
