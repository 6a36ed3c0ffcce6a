"""A checkpoint is written, plain or quantized; what it lost is measured; and what stands on disk is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Build, CompiledLayer, QuantizationReport
from modelexport.errors import ConversionError
from modelexport.toolkit import importable, stage

from . import account, dequantize, engine, files, model, modelopt, perplexity, serving, session, texts
from .backend import TOOLS, silenced
from .files import CHECKPOINT
from .formats import Format
from .modelopt import Recipe
from .serving import Serving

if TYPE_CHECKING:
    from modelexport.contract import Arrays


@dataclass(frozen=True)
class Written:
    """A checkpoint that stands on disk: the gate's precision, its layers, and what there is to say of it.

    `samples` are the texts that the gate is to check it on, none where random tokens do.
    """

    precision: str
    layers: tuple[CompiledLayer, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    quantization: QuantizationReport | None = None
    notes: tuple[str, ...] = ()
    samples: tuple[Arrays, ...] = ()


def plain(folder: Path, out: Path, dtype: str, kv_cache: str) -> Written:
    """Write the model of `folder` in `dtype` to `out`, to be served with `kv_cache`.

    Raises ConversionError where transformers can't load or write it.
    """
    with silenced():
        loaded = modelopt.pretrained(folder, dtype)
        stage("write the checkpoint")
        try:
            loaded.save_pretrained(out)
        except Exception as error:
            raise ConversionError(
                f"transformers can't write {folder} as a checkpoint: {error}", "upgrade transformers"
            ) from error
    files.complete(folder, out)
    own = str(loaded.dtype).removeprefix("torch.")
    return Written("fp8" if kv_cache == "fp8" else own, account.layers(modelopt.linear(loaded), {}, own))


def quantized(
    folder: Path, out: Path, recipe: Recipe, data: texts.Texts, before: perplexity.Model, ratio: float | None
) -> Written:
    """Write the model of `folder` to `out`, quantized as the recipe says, and measure what it lost.

    `before` answers as the model did, and `ratio` is how much the perplexity may grow, None for the format's own.
    Raises ConversionError where nothing was quantized, ParityError where too much was lost.
    """
    format = recipe.format
    ranges = modelopt.write(folder, out, recipe, data.calibration)
    files.complete(folder, out)
    stored = files.tensors(out)
    names = dequantize.names(stored)
    if not names:
        raise ConversionError(f"ModelOpt quantized no layer of {folder}", "its layers may be of its own kind")
    dtype = files.read_json(out / files.CONFIG).get("dtype", "float32")
    written = Written(
        format.precision,
        account.layers(ranges, dict.fromkeys(names, format.name), dtype),
        quantization=account.report(recipe, ranges, names, stored, dtype),
        notes=_requirements(format),
        samples=texts.gated(data.judged) if format.saturates else (),
    )
    return _measured(written, out, recipe, data, before, format.ratio if ratio is None else ratio)


def _requirements(format: Format) -> tuple[str, ...]:
    """What it takes to run a checkpoint of this format."""
    capability = ".".join(map(str, format.capability))
    needs = f"{format.name} takes a GPU of compute capability {capability}: {format.gpus}"
    return (needs, format.note) if format.note else (needs,)


def _measured(
    written: Written, out: Path, recipe: Recipe, data: texts.Texts, before: perplexity.Model, allowed: float
) -> Written:
    """With what was lost on the texts to judge by. Raises ParityError where it is more than `allowed`."""
    if not data.judged:
        return written
    assert written.quantization is not None
    stage("read the checkpoint back")
    after = model.load(out, recipe.kv_cache)
    loss = perplexity.measure(before, lambda ids, mask: model.logits(after, ids, mask), data.judged)
    perplexity.check(loss, recipe.format, allowed)
    return replace(
        written,
        details={**written.details, "perplexity": loss.to_json(allowed, data.what)},
        quantization=replace(written.quantization, score=loss.score(data.what)),
        notes=(*written.notes, loss.line(allowed, data.what)),
    )


def finish(out: Path, served: Serving, written: Written, built: bool = False) -> Build:
    """Write what serves the checkpoint in `out`, and say what stands there; `built`: with an engine."""
    served.write(out)
    notes = [*written.notes, f"to serve it: sh {serving.SCRIPT}, or {serving.COMMAND}"]
    if lacking := session.lacking():
        notes.append(f"TensorRT-LLM has not run here ({lacking}): verified by what the files say, in PyTorch")
    if built:
        notes.append(f"{engine.FOLDER}/ was built by {engine.BUILDER}: it has not been verified")
    return Build(
        CHECKPOINT,
        tuple(tool for tool in TOOLS if tool != "nvidia-modelopt" or importable("modelopt")),
        written.precision,
        {**written.details, "serving": served.to_json()},
        tuple(notes),
        written.quantization,
        written.layers,
        samples=written.samples,
    )
