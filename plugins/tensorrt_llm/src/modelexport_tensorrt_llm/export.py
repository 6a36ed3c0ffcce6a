"""A Hugging Face folder → a checkpoint that TensorRT-LLM loads, quantized if asked for, and what serves it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Build, CompiledLayer, QuantizationReport, fits
from modelexport.contract import QuantizedLayer as Quantized
from modelexport.errors import ArtifactError, ConversionError, SourceError
from modelexport.toolkit import importable

from . import checkpoint, dequantize, engine, model, perplexity, serving, session, texts
from . import quantize as quantizing
from .formats import FORMATS, Format
from .serving import CHECKPOINT, Serving

if TYPE_CHECKING:
    from modelexport.contract import Arrays, Artifact, Calibration, Goal, Source

    from . import ExportOptions, QuantizeOptions

TOOLS = ("torch", "transformers", "nvidia-modelopt")

#: what goes with the weights, copied as it is
_BESIDE = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model", "*.tiktoken",
    "chat_template*", "generation_config.json",
)  # fmt: skip


def export(source: Source, out: Path, options: ExportOptions) -> Build:
    """Write the source's folder as a checkpoint into `out`, quantized as the options say.

    Raises SourceError for what is no language model in a folder, OptionError for what its shapes don't allow.
    """
    folder = _folder(source)
    config = checkpoint.read_json(folder / checkpoint.CONFIG, SourceError)
    served = Serving(options.tp, options.kv_cache, options.max_batch_size, options.max_seq_len)
    serving.check(served, config)
    format = FORMATS.get(options.quantization)
    if options.engine:
        engine.check()
    if format is None:
        written = _Plain(folder, options.dtype, options.kv_cache).write(out / CHECKPOINT)
        if options.engine:
            engine.build(folder, out, served, options.dtype)
        return _finish(out, served, written, options.engine)
    return _quantized(source, folder, out, options, format, served)


def _folder(source: Source) -> Path:
    task = source.processing.get("task")
    if source.path is None or not (source.path / checkpoint.CONFIG).is_file():
        raise SourceError(
            f"{source.ref or 'the source'} is no Hugging Face folder: TensorRT-LLM loads checkpoints, not code",
            "save the model with save_pretrained, and export that folder",
        )
    if task != "text-generation":
        raise SourceError(
            f"{source.ref} is for {task}: TensorRT-LLM generates text", "give a language model, or another target"
        )
    if (source.path / checkpoint.QUANTIZATION).is_file():
        raise SourceError(
            f"{source.ref} is quantized already: trtllm-serve loads it as it is", "export the original"
        )
    return source.path


def _quantized(
    source: Source, folder: Path, out: Path, options: ExportOptions, format: Format, served: Serving
) -> Build:
    if options.calibration is None:
        raise quantizing.need_texts(format, "-k calibration=texts.txt")
    recipe = quantizing.Recipe(format, options.kv_cache, options.group_size, options.length, options.dtype)

    def float_model(ids: Any, mask: Any) -> Any:
        import torch

        with torch.no_grad():
            return source.module(**_taken(source, ids, mask))["logits"]

    with texts.opened(source, options) as given:
        work = _Quantizing(folder, out / CHECKPOINT, recipe, options.max_perplexity_ratio)
        written = work.write(given, float_model)
        fitting = tuple(sample for sample in written.samples if fits(sample, source.specs))
        written = replace(written, samples=fitting)
        if options.engine:
            engine.build(folder, out, served, options.dtype, recipe, given.calibration)
    return _finish(out, served, written, options.engine)


def _taken(source: Source, ids: Any, mask: Any) -> dict[str, Any]:
    there = {"input_ids": ids, "attention_mask": mask}
    return {spec.name: there[spec.name] for spec in source.specs}


def quantize(
    artifact: Artifact, out: Path, options: QuantizeOptions, calibration: Calibration | None, goal: Goal | None
) -> Build:
    """Write the checkpoint of `artifact` into `out`, quantized as the options say, with what serves it.

    Raises ArtifactError for one that is quantized, InputError without texts.
    """
    format = FORMATS[options.quantization]
    folder = artifact.entry_path
    if done := checkpoint.quantization(folder).algorithm:
        raise ArtifactError(
            f"{artifact.path} is quantized already, as {done}", "quantize one exported without that"
        )
    if calibration is None:
        raise quantizing.need_texts(format, "--calibration texts.txt")
    served = Serving.from_json(artifact.details["serving"])
    if options.kv_cache != "auto":
        served = Serving(served.tp, options.kv_cache, served.max_batch_size, served.max_seq_len)
    recipe = quantizing.Recipe(format, served.kv_cache, options.group_size, options.length)
    samples = goal.samples if goal is not None else calibration
    given = texts.Texts(calibration, texts.judged(samples, options.length), goal.data if goal else "")
    before = model.load(folder)
    work = _Quantizing(folder, out / CHECKPOINT, recipe, options.max_perplexity_ratio)
    return _finish(out, served, work.write(given, lambda ids, mask: model.logits(before, ids, mask)))


# --------------------------------------------------------------------------------------- what is written


@dataclass(frozen=True)
class _Written:
    """A checkpoint that stands on disk: the gate's precision, its layers, and what there is to say of it."""

    precision: str
    layers: tuple[CompiledLayer, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    quantization: QuantizationReport | None = None
    notes: tuple[str, ...] = ()
    samples: tuple[Arrays, ...] = ()


@dataclass(frozen=True)
class _Plain:
    """The model of `folder` in `dtype`, to be served with `kv_cache`."""

    folder: Path
    dtype: str
    kv_cache: str

    def write(self, out: Path) -> _Written:
        with model.silenced():
            loaded = quantizing.pretrained(self.folder, self.dtype)
            try:
                loaded.save_pretrained(out)
            except Exception as error:
                raise ConversionError(
                    f"transformers can't write {self.folder} as a checkpoint: {error}", "upgrade transformers"
                ) from error
        dtype = str(loaded.dtype).removeprefix("torch.")
        complete(self.folder, out)
        precision = "fp8" if self.kv_cache == "fp8" else dtype
        return _Written(precision, _layers(_linear(loaded), {}, dtype))


@dataclass(frozen=True)
class _Quantizing:
    """The model of `folder`, quantized by `recipe` and written to `out`, losing no more than `ratio` allows."""

    folder: Path
    out: Path
    recipe: quantizing.Recipe
    ratio: float | None

    def write(self, given: texts.Texts, before: perplexity.Model) -> _Written:
        format = self.recipe.format
        ranges = quantizing.quantize(self.folder, self.out, self.recipe, given.calibration)
        complete(self.folder, self.out)
        stored = checkpoint.tensors(self.out)
        done = dequantize.names(stored)
        if not done:
            raise ConversionError(
                f"ModelOpt quantized no layer of {self.folder}", "its layers may be of its own kind"
            )
        dtype = checkpoint.read_json(self.out / checkpoint.CONFIG).get("dtype", "float32")
        notes = [
            f"{format.name} takes a GPU of compute capability {'{}.{}'.format(*format.capability)}: {format.gpus}"
        ]
        notes += [format.note] if format.note else []
        report = self._report(ranges, done, stored, dtype)
        layers = _layers(ranges, dict.fromkeys(done, format.name), dtype)
        details: dict[str, Any] = {}
        if given.judged:
            allowed = self.ratio if self.ratio is not None else format.ratio
            after = model.load(self.out, self.recipe.kv_cache)
            loss = perplexity.measure(before, lambda ids, mask: model.logits(after, ids, mask), given.judged)
            perplexity.check(loss, format, allowed)
            details["perplexity"] = loss.to_json(allowed, given.what)
            notes.append(loss.line(allowed, given.what))
            report = replace(report, score=loss.score(given.what))
        samples = texts.gated(given.judged) if format.saturates else ()
        return _Written(format.precision, layers, details, report, tuple(notes), samples)

    def _report(
        self, ranges: Mapping[str, tuple[float, float]], done: Sequence[str], stored: Mapping[str, Any], dtype: str
    ) -> QuantizationReport:
        format, left = self.recipe.format, quantizing.excluded(ranges, done)
        rows = [
            Quantized(name, "Linear", format.name, ranges.get(name), bytes_saved=_saved(stored, name, dtype))
            for name in done
        ]
        rows += [
            Quantized(name, "Linear", dtype, ranges[name], note="the format leaves it as it is") for name in left
        ]
        settings = {key: value for key, value in asdict(self.recipe).items() if key != "format"}
        return QuantizationReport(
            format.name, {"algorithm": format.algorithm, **settings}, tuple(rows), calibrated=format.saturates
        )


def _linear(loaded: Any) -> list[str]:
    import torch

    return [name for name, each in loaded.named_modules() if isinstance(each, torch.nn.Linear)]


def _layers(names: Iterable[str], quantized: Mapping[str, str], dtype: str) -> tuple[CompiledLayer, ...]:
    return tuple(CompiledLayer(name, "linear", quantized.get(name, dtype)) for name in names)


def _saved(stored: Mapping[str, Any], name: str, dtype: str) -> int:
    """What a layer's weight got smaller by, its scales counted."""
    weight = stored[f"{name}.weight"]
    packed = 2 if str(weight.dtype) == "torch.uint8" else 1
    own = sum(value.nbytes for key, value in stored.items() if key.startswith(f"{name}."))
    return int(weight.numel() * packed * (4 if dtype == "float32" else 2) - own)


def complete(folder: Path, out: Path) -> None:
    """Put beside the weights in `out` what goes with them, for transformers 4 and 5 alike."""
    for pattern in _BESIDE:
        for file in folder.glob(pattern):
            if file.is_file() and not file.name.endswith(".safetensors"):
                shutil.copyfile(file, out / file.name)
    original, written = (checkpoint.read_json(each / checkpoint.CONFIG, ConversionError) for each in (folder, out))
    merged = {**original, **written, "torch_dtype": written.get("dtype", original.get("torch_dtype"))}
    _write_json(out / checkpoint.CONFIG, checkpoint.readable_by_older(merged))
    tokenizer = out / "tokenizer_config.json"
    if tokenizer.is_file():
        said = checkpoint.read_json(tokenizer, ConversionError)
        if said.get("tokenizer_class") == "TokenizersBackend":  # transformers 5's name for it
            _write_json(tokenizer, {**said, "tokenizer_class": "PreTrainedTokenizerFast"})


def _write_json(file: Path, value: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _finish(out: Path, served: Serving, written: _Written, built: bool = False) -> Build:
    """Write what serves the checkpoint, and say what stands in `out`."""
    served.write(out)
    notes = [*written.notes, f"to serve it: sh {serving.SCRIPT}, or {serving.COMMAND}"]
    if lacking := session.lacking():
        notes.append(f"TensorRT-LLM has not run here ({lacking}): verified by what the files say, in PyTorch")
    if built:
        notes.append(f"{engine.FOLDER}/ was built by {engine.BUILDER}: it has not been verified")
    tools = tuple(tool for tool in TOOLS if tool != "nvidia-modelopt" or importable("modelopt"))
    details = {**written.details, "serving": served.to_json()}
    return Build(
        CHECKPOINT,
        tools,
        written.precision,
        details,
        tuple(notes),
        written.quantization,
        written.layers,
        samples=written.samples,
    )
