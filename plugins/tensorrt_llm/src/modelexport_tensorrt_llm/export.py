"""A Hugging Face folder → a checkpoint that TensorRT-LLM loads, quantized if asked for, and what serves it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Build, fits
from modelexport.errors import SourceError

from . import engine, files, serving, texts, writing
from .files import CHECKPOINT
from .formats import FORMATS, Format
from .modelopt import Recipe
from .serving import Serving

if TYPE_CHECKING:
    from modelexport.contract import Source

    from . import ExportOptions


def export(source: Source, out: Path, options: ExportOptions) -> Build:
    """Write the source's folder as a checkpoint into `out`, quantized as the options say.

    Raises SourceError for what is no language model in a folder, OptionError for what its shapes don't allow.
    """
    folder, served = checked(source, options)
    format = FORMATS.get(options.quantization)
    if format is not None:
        return _quantized(source, folder, out, options, format, served)
    written = writing.plain(folder, out / CHECKPOINT, options.dtype, options.kv_cache)
    if options.engine:
        engine.build(folder, out, served, options.dtype)
    return writing.finish(out, served, written, options.engine)


def checked(source: Source, options: ExportOptions) -> tuple[Path, Serving]:
    """The source's folder, and how it is to be served. Raises SourceError, OptionError, before any work."""
    folder = _folder(source)
    served = Serving(options.tp, options.kv_cache, options.max_batch_size, options.max_seq_len)
    serving.check(served, files.read_json(folder / files.CONFIG, SourceError))
    return folder, served


def _folder(source: Source) -> Path:
    """The source's folder. Raises SourceError where it has none, or one that TensorRT-LLM has no use for."""
    task = source.processing.get("task")
    if source.path is None or not (source.path / files.CONFIG).is_file():
        raise SourceError(
            f"{source.ref or 'the source'} is no Hugging Face folder: TensorRT-LLM loads checkpoints, not code",
            "save the model with save_pretrained, and export that folder",
        )
    if task != "text-generation":
        raise SourceError(
            f"{source.ref} is for {task}: TensorRT-LLM generates text", "give a language model, or another target"
        )
    if (source.path / files.QUANTIZATION).is_file():
        raise SourceError(
            f"{source.ref} is quantized already: trtllm-serve loads it as it is", "export the original"
        )
    return source.path


def _quantized(
    source: Source, folder: Path, out: Path, options: ExportOptions, format: Format, served: Serving
) -> Build:
    recipe = Recipe(format, options.kv_cache, options.group_size, options.length, options.dtype)

    def before(ids: Any, mask: Any) -> Any:
        import torch

        with torch.no_grad():
            return source.module(**_taken(source, ids, mask))["logits"]

    with texts.opened(source, options) as data:
        ratio = options.max_perplexity_ratio
        written = writing.quantized(folder, out / CHECKPOINT, recipe, data, before, ratio)
        if options.engine:
            engine.build(folder, out, served, options.dtype, recipe, data.calibration)
    fitting = tuple(sample for sample in written.samples if fits(sample, source.specs))
    return writing.finish(out, served, replace(written, samples=fitting), options.engine)


def _taken(source: Source, ids: Any, mask: Any) -> dict[str, Any]:
    """Those of the two that are inputs of the source."""
    by_name = {"input_ids": ids, "attention_mask": mask}
    return {spec.name: by_name[spec.name] for spec in source.specs}
