"""What `mx quantize` and `mx optimize` do to real models: size, accuracy and latency, every figure in one run.

Each section prints the commands that it gives and what came of them, and marks what misses its limit. Latency is
a ratio of `mx benchmark`'s machinery: fresh processes that take turns, two threads, the median over turns.
`make bench-quantize` runs them all (half an hour); `benchmarks/quantize.py minilm memory` some.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import images
import modelexport
import numpy as np
import texts
from modelexport.bench.report import benchmark
from modelexport.contract import QuantizationReport
from modelexport.data.images import image_inputs
from modelexport.data.texts import text_inputs
from sections import ROOT, Done, Figure, Figures, Sections, mx, run

WORK = ROOT / "build" / "peers" / "quantize"
MODELS = "examples/models.py"
IMAGES = "benchmarks/images.py"
THREADS = 2
SENTENCES = 500
#: texts and images at a time when accuracy is measured: int8 takes one scale for all of a batch
BATCH = 8
PACKAGES = ("modelexport", "modelexport-onnx", "onnxruntime", "torch", "onnx", "onnxscript", "onnxslim", "numpy")


# --------------------------------------------------------------------------------------- artifacts


def exported(name: str, source: str | Path, *arguments: str | Path) -> Path:
    """The float32 artifact of a model; one that is there is used again."""
    path = WORK / f"{name}.onnx"
    if not path.is_dir():
        mx("export", source, "-t", "onnx", "-o", WORK, "--name", name, *arguments)
    return path


def quantized(path: Path, kind: str, *arguments: str | Path, may_fail: bool = False) -> tuple[Path, Done]:
    """A quantized copy of an artifact, made anew, and what the command said; the best found where none held."""
    out = WORK / f"{path.stem}.{kind}.onnx"
    done = mx("quantize", path, "-o", out, *arguments, may_fail=may_fail)
    failed = out.with_name(f"{out.name}.failed")
    return failed if done.code and failed.is_dir() else out, done


def size_ratio(path: Path, base: Path) -> float:
    return modelexport.load(path).size / modelexport.load(base).size


def latency(paths: Sequence[Path], base: Path, **dims: int) -> list[float]:
    """p50 of each artifact relative to the base's."""
    report = benchmark(paths, baseline=base, threads=THREADS, dims=dims)
    ratios = {Path(figure.name): figure.ratio for figure in report.figures}
    found = [ratios[modelexport.load(path).path] for path in paths]
    return [ratio for ratio in found if ratio is not None]


def cosines(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of rows."""
    own, other = own.astype(np.float64), other.astype(np.float64)
    products: np.ndarray = (own * other).sum(1) / np.linalg.norm(own, axis=1) / np.linalg.norm(other, axis=1)
    return products


def left_out(report: QuantizationReport) -> Figures:
    """The layers at higher precision: how many of each kind, which, and what each costs in time and in bytes."""
    tried = [trial for trial in report.trials if not trial.simulated]
    left = set(next((t.left for t in reversed(tried) if t.verdict), tried[-1].left))
    layers = [layer for layer in report.layers if layer.name in left]
    kinds = {kind: sum(layer.kind == kind for layer in layers) for kind in {layer.kind for layer in layers}}
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items(), key=lambda item: -item[1]))
    yield Figure("layers left in float", f"{len(left)} of {len(report.layers)}: {counted or 'none'}")
    for layer in sorted(layers, key=lambda layer: layer.output_sqnr or 0.0):
        alone = "" if layer.output_sqnr is None else f"{layer.output_sqnr:6.1f} dB alone"
        cost = "" if layer.cost is None else f", {layer.cost:+.1%} of the time"
        yield Figure(f"  {layer.name[-54:]}", f"{layer.kind:<12}{alone}{cost}, left: {layer.precision}")
    yield Figure("trials (simulated / built)", f"{len(report.trials) - len(tried)} / {len(tried)}")
    for warning in report.warnings:
        yield Figure("warning", warning)


def score(report: QuantizationReport) -> Figures:
    if report.score:
        own = report.score
        yield Figure(f"drop of {own.metric} on {own['data']}", own["drop"], at_most=own.get("max_drop"))


# --------------------------------------------------------------------------------------- sentences


def minilm_source() -> Path:
    import beside_optimum

    return beside_optimum.model()


@cache
def calibration_texts() -> Path:
    """Real texts, none of them among the 500 on which the result is judged."""
    path = WORK / "news.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(texts.sentences(SENTENCES + 200)[SENTENCES:]) + "\n", encoding="utf-8")
    return path


def embed(path: Path, passages: Sequence[str], batch: int = BATCH) -> np.ndarray:
    """Sentence embeddings by an artifact, through its own tokenizer; texts of like length share a batch."""
    artifact = modelexport.load(path)
    order = sorted(range(len(passages)), key=lambda index: len(passages[index]))
    rows: dict[int, np.ndarray] = {}
    with modelexport.run(path, options={"threads": THREADS}) as session:
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            inputs = text_inputs(artifact, [passages[index] for index in part])
            rows |= zip(part, session(inputs)["sentence_embedding"], strict=True)
    return np.stack([rows[index] for index in range(len(passages))])


def spearman(own: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation, ties at their mean rank."""

    def ranks(values: np.ndarray) -> np.ndarray:
        _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
        return (np.cumsum(counts) - (counts - 1) / 2)[places]

    return float(np.corrcoef(ranks(own), ranks(other))[0, 1])


def word_correlation(path: Path, name: Any) -> float:
    pairs = texts.word_similarity(name)
    first, second = (embed(path, [pair[side] for pair in pairs]) for side in (0, 1))
    return spearman(cosines(first, second), np.array([pair[2] for pair in pairs]))


def topic_accuracy(path: Path) -> float:
    """20 Newsgroups: a logistic head on the embeddings of 1,200 articles, right on how many of 600 later ones."""
    import torch

    parts = [texts.newsgroups(1200, "train"), texts.newsgroups(600, "test")]
    names = sorted(set(parts[0][1]))
    features = [
        torch.from_numpy(embed(path, [" ".join(article.split()[:100]) for article in articles]))
        for articles, _ in parts
    ]
    labels = [torch.tensor([names.index(topic) for topic in topics]) for _, topics in parts]
    head = torch.nn.Linear(features[0].shape[1], len(names))
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    solver = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = torch.nn.functional.cross_entropy(head(features[0]), labels[0]) + 1e-4 * (head.weight**2).sum()
        loss.backward()
        return loss

    solver.step(closure)
    return float((head(features[1]).argmax(1) == labels[1]).float().mean())


@dataclass(frozen=True)
class Judged:
    """What a sentence encoder is worth."""

    alone: np.ndarray
    batched: np.ndarray
    correlations: Mapping[str, float]
    accuracy: float

    @classmethod
    def of(cls, path: Path) -> Judged:
        correlations = {name: word_correlation(path, name) for name in ("simlex999", "wordsim353")}
        alone, batched = (embed(path, texts.sentences(SENTENCES), batch) for batch in (1, BATCH))
        return cls(alone, batched, correlations, topic_accuracy(path))


def minilm() -> Figures:
    """all-MiniLM-L6-v2 in int8 by `auto`."""
    source, data = minilm_source(), calibration_texts()
    chain = ["--precision", "int8", "--calibration", data]
    mx("export", source, "-t", "onnx", "-o", WORK, "--name", "minilm", *chain)
    plain, optimized, int8 = (WORK / f"minilm{part}.onnx" for part in ("", ".optimized", ".int8"))
    bare, _ = quantized(plain, "bare")
    base = Judged.of(plain)
    yield Figure("float32: SimLex-999 Spearman", base.correlations["simlex999"])
    yield Figure("float32: WordSim-353 Spearman", base.correlations["wordsim353"])
    yield Figure("float32: 20 Newsgroups accuracy", base.accuracy)
    for name, path in {"int8, calibrated": int8, "int8, no data": bare}.items():
        judged, report = Judged.of(path), modelexport.load(path).quantization_report()
        alike = {"one at a time": judged.alone, f"in batches of {BATCH}": judged.batched}
        left = max((len(t.left) for t in report.trials if not t.simulated and t.verdict), default=0)
        yield Figure(f"{name}: recipe", f"{report.mode}, {left} of {len(report.layers)} layers in blocks")
        yield Figure(f"{name}: size", size_ratio(path, plain), at_most=0.30)
        for how, embeddings in alike.items():
            found = cosines(embeddings, base.alone)
            lowest = Figure(f"{name}: cosine of {SENTENCES} sentences {how}, min", float(found.min()), None, 0.995)
            yield from (lowest, Figure(f"{name}: … mean", float(found.mean())))
        for words, value in judged.correlations.items():
            yield Figure(f"{name}: {words} Spearman − float's", value - base.correlations[words], 0.005, -0.005)
        yield Figure(f"{name}: 20 Newsgroups accuracy − float's", judged.accuracy - base.accuracy, None, -0.005)
    for batch in (8, 1):
        shape = {"batch": batch, "sequence": 128}
        ratios = latency([int8, bare], plain, **shape)
        (beside_optimized,) = latency([int8], optimized, **shape)
        limit = 0.75 if batch == 8 else None
        yield Figure(f"int8, calibrated: p50 at {batch} × 128 / float as exported", ratios[0], limit)
        yield Figure(f"int8, calibrated: p50 at {batch} × 128 / float optimized", beside_optimized, limit)
        yield Figure(f"int8, no data: p50 at {batch} × 128 / float as exported", ratios[1], limit)


def static_repair() -> Figures:
    """Static int8 of all-MiniLM-L6-v2: the collapse, and what it takes to repair it."""
    plain, data = exported("minilm", minilm_source()), calibration_texts()
    sentences = texts.sentences(SENTENCES)
    base = embed(plain, sentences)
    for kind, budget in {"static": None, "static01": "0.01", "static005": "0.005"}.items():
        limits = ["--max-drop", budget] if budget else []
        path, done = quantized(
            plain, kind, "--mode", "static", "--calibration", data, *limits, may_fail=budget is None
        )
        name = f"max-drop {budget}" if budget else "as it comes"
        alike, report = cosines(embed(path, sentences), base), modelexport.load(path).quantization_report()
        yield Figure(f"{name}: exit code", str(done.code))
        yield Figure(f"{name}: cosine of {SENTENCES} sentences, min", float(alike.min()))
        yield Figure(f"{name}: … mean", float(alike.mean()))
        yield Figure(f"{name}: size", size_ratio(path, plain))
        yield from score(report)
        if budget:
            yield from left_out(report)
            (ratio,) = latency([path], plain, batch=8, sequence=128)
            yield Figure(f"{name}: p50 at 8 × 128 / float", ratio)


def optimize() -> Figures:
    """`mx optimize` of all-MiniLM-L6-v2: what is fused, and how much faster it is."""
    plain = exported("minilm", minilm_source())
    out = WORK / "minilm.fused.onnx"
    mx("optimize", plain, "-o", out)
    details = modelexport.load(out).details
    yield Figure("kept", str(details["kept"]))
    before, after = (sum(details[key].values()) for key in ("operators_before", "operators"))
    yield Figure("operators", f"{before} became {after}")
    yield Figure("fused", ", ".join(f"{count} {name}" for name, count in details["fusions"].items()))
    alike = cosines(embed(out, texts.sentences(100)), embed(plain, texts.sentences(100)))
    yield Figure("cosine of 100 sentences, min", float(alike.min()), at_least=0.99999)
    for batch in (8, 1):
        (ratio,) = latency([out], plain, batch=batch, sequence=128)
        yield Figure(f"p50 at {batch} × 128 / float as exported", ratio, at_most=1.0)


# --------------------------------------------------------------------------------------- images


def crop_inputs(path: Path, n: int = 200) -> Mapping[str, np.ndarray]:
    """Crops that calibration does not see, through the artifact's own preprocessing; and the 15 photographs."""
    artifact, pictures = modelexport.load(path), [*images.photographs(), *images.crops(n, seed=9)]
    parts = [image_inputs(artifact, pictures[i : i + BATCH]) for i in range(0, len(pictures), BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def answers(path: Path, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Of one output, row by row."""
    rows = len(next(iter(inputs.values())))
    with modelexport.run(path, options={"threads": THREADS}) as session:
        parts = [
            next(iter(session({k: v[i : i + BATCH] for k, v in inputs.items()}).values()))
            for i in range(0, rows, BATCH)
        ]
    return np.concatenate(parts)


def beside_float(path: Path, plain: Path, inputs: Mapping[str, np.ndarray]) -> Figures:
    """Size, agreement of the largest logit, and cosine of logits, against the float32 artifact."""
    own, base = answers(path, inputs), answers(plain, inputs)
    agree, alike, shown = own.argmax(1) == base.argmax(1), cosines(own, base), len(images.PHOTOGRAPHS)
    yield Figure("size", size_ratio(path, plain))
    yield Figure(f"top-1 agreement, {shown} photographs", float(agree[:shown].mean()))
    yield Figure(f"top-1 agreement, {len(agree) - shown} crops", float(agree[shown:].mean()))
    yield Figure("cosine of logits, min", float(alike.min()))
    yield Figure("… mean", float(alike.mean()))


def fashion_calibration(n: int = 200) -> Path:
    path = WORK / "fashion.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, image=images.fashion("train")[0][:n])
    return path


def cnn() -> Figures:
    """A small ResNet in static int8, on labelled images."""
    plain = exported("fashion", f"{IMAGES}:fashion_net")
    data = ["--calibration", fashion_calibration(), "--samples", "200", "--mode", "static"]
    path, _ = quantized(plain, "static", *data, "--evaluate", f"{IMAGES}:fashion_accuracy")
    report = modelexport.load(path).quantization_report()
    yield Figure("FashionNet: size", size_ratio(path, plain), at_most=0.30)
    yield Figure("FashionNet: top-1 on 10,000 labelled images, float32", report.score.baseline)
    yield Figure("FashionNet: … int8", report.score.score)
    yield Figure("FashionNet: … lost", report.score.drop, at_most=0.005)
    for batch, limit in ((8, 0.45), (1, None)):
        (ratio,) = latency([path], plain, batch=batch)
        yield Figure(f"FashionNet: p50 at batch {batch} / float", ratio, limit)


def efficientnet() -> Figures:
    """EfficientNet-Lite0 in static int8, on photographs and crops of them."""
    plain = exported("efficientnet", f"{MODELS}:efficientnet")
    data = ["--mode", "static", "--calibration", images.save_crops(WORK / "crops", 128, seed=1)]
    inputs = crop_inputs(plain)
    for kind, budget in {"static": [], "static005": ["--max-drop", "0.005"]}.items():
        path, _ = quantized(plain, kind, *data, *budget, may_fail=True)
        report = modelexport.load(path).quantization_report()
        yield from (
            Figure(f"EfficientNet {' '.join(budget)}: {f.what}", f.value)
            for f in beside_float(path, plain, inputs)
        )
        yield from score(report)
        if budget:
            yield from left_out(report)
        (ratio,) = latency([path], plain, batch=8)
        yield Figure(f"EfficientNet {' '.join(budget)}: p50 at batch 8 / float", ratio, at_most=0.45)


def mixed_ranges() -> Figures:
    """A detector whose head gives pixels and odds in one tensor: static int8 breaks it, `--max-drop` mends it."""
    plain = exported("detector", f"{IMAGES}:detector")
    tiles = WORK / "mosaics.npz"
    np.savez(tiles, image=images.mosaics(12, seed=0, half=0)[0])
    labelled = ["--mode", "static", "--calibration", tiles, "--evaluate", f"{IMAGES}:face_accuracy"]
    yield from _repaired("detector", plain, labelled, "0.005", batch=1)


def depthwise() -> Figures:
    """Depthwise convolutions with one scale a tensor: the same."""
    plain = exported("efficientnet", f"{MODELS}:efficientnet")
    crops = images.save_crops(WORK / "crops", 128, seed=1)
    scales = ["--mode", "static", "--calibration", crops, "-k", "per-channel=false"]
    yield from _repaired("EfficientNet", plain, scales, "0.01", batch=8)
    inputs = crop_inputs(plain)
    for kind in ("plain", "repaired"):
        path = WORK / f"{plain.stem}.{kind}.onnx"
        path = path if path.is_dir() else path.with_name(f"{path.name}.failed")
        yield from (Figure(f"EfficientNet, {kind}: {f.what}", f.value) for f in beside_float(path, plain, inputs))


def _repaired(name: str, plain: Path, arguments: Sequence[str | Path], budget: str, batch: int) -> Figures:
    """A quantization without and with a budget."""
    path, done = quantized(plain, "plain", *arguments, may_fail=True)
    own = modelexport.load(path).quantization_report().score
    yield Figure(f"{name}: {own.metric}, float32", own.baseline)
    yield Figure(f"{name}: {own.metric}, plain static int8", own.score)
    yield Figure(f"{name}: exit code", str(done.code))
    path, done = quantized(plain, "repaired", *arguments, "--max-drop", budget, may_fail=True)
    report = modelexport.load(path).quantization_report()
    yield Figure(f"{name}: {own.metric}, repaired", report.score.score)
    yield Figure(f"{name}: exit code", float(done.code), at_most=0.0)
    yield from score(report)
    yield from left_out(report)
    yield Figure(f"{name}: size, repaired", size_ratio(path, plain))
    (ratio,) = latency([path], plain, batch=batch)
    yield Figure(f"{name}: p50 at batch {batch} / float, repaired", ratio)


# --------------------------------------------------------------------------------------- auto


def auto() -> Figures:
    """`mx quantize` without options on every model of examples/models.py, and on MiniLM."""
    crops = images.save_crops(WORK / "crops", 128, seed=1)
    with_data = {"efficientnet": crops, "fashion": fashion_calibration(), "minilm": calibration_texts()}
    sources: dict[str, str | Path] = {
        name: f"{MODELS}:{name}" for name in ("efficientnet", "pnet", "silero", "crepe", "g2p", "attacut")
    }
    sources |= {"fashion": f"{IMAGES}:fashion_net", "minilm": minilm_source()}
    for name, source in sources.items():
        plain = exported(name, source)
        yield from _auto(f"{name}, no data", plain, [])
        if name in with_data:
            yield from _auto(f"{name}, calibrated", plain, ["--calibration", with_data[name]])


def _auto(name: str, plain: Path, arguments: Sequence[str | Path]) -> Figures:
    path, done = quantized(plain, "auto", *arguments, may_fail=True)
    if done.code:
        yield Figure(name, f"exit code {done.code}: {done.text}")
        return
    report = modelexport.load(path).quantization_report()
    yield Figure(name, f"{report.mode}, size {size_ratio(path, plain):.3f}")
    budget = 0.002 * abs(report.score.baseline)
    yield Figure(f"{name}: drop of {report.score['metric']}", report.score.drop, at_most=budget)
    (ratio,) = latency([path], plain)
    yield Figure(f"{name}: p50 / float", ratio, at_most=1.05)


# --------------------------------------------------------------------------------------- memory


def memory() -> Figures:
    """Peak memory of static calibration with 1,000 samples, relative to 50."""
    efficient, sentence = exported("efficientnet", f"{MODELS}:efficientnet"), exported("minilm", minilm_source())
    crops = images.save_crops(WORK / "crops1000", 1000, seed=2)
    news = WORK / "news1000.txt"
    news.write_text("\n".join(texts.sentences(1500)[500:]) + "\n", encoding="utf-8")
    for name, plain, data in (("MiniLM", sentence, news), ("EfficientNet", efficient, crops)):
        for calibrator in ("minmax", "percentile"):
            few, many = (_peak(plain, data, calibrator, samples) for samples in (50, 1000))
            yield Figure(f"{name}, {calibrator}: MB with 50 and with 1,000", f"{few / 1e6:.0f}, {many / 1e6:.0f}")
            yield Figure(f"{name}, {calibrator}: ratio", many / few, at_most=1.3)


def _peak(plain: Path, data: Path, calibrator: str, samples: int) -> int:
    """VmHWM of a fresh process of `mx quantize`, in bytes."""
    code = (
        "import sys; from modelexport import cli; from modelexport.bench.runner import peak_rss; "
        "code = cli._run(sys.argv[1:]); "
        "print('peak', peak_rss()); sys.exit(code)"
    )
    arguments = ["--mode", "static", "-k", "explain=false", "-k", f"calibrator={calibrator}", "--no-verify"]
    with tempfile.TemporaryDirectory() as folder:
        where = ["quantize", str(plain), "-o", f"{folder}/small.onnx", "--calibration", str(data)]
        command = [*where, "--samples", str(samples), *arguments]
        print(f"$ mx {shlex.join(command)}".replace(f"{ROOT}/", ""), flush=True)
        ran = subprocess.run(
            [sys.executable, "-c", code, *command], capture_output=True, text=True, check=True, cwd=ROOT
        )
    return int(ran.stdout.rpartition("peak ")[2])


# --------------------------------------------------------------------------------------- the run

SECTIONS: Sections = {
    "minilm": minilm,
    "static-repair": static_repair,
    "cnn": cnn,
    "efficientnet": efficientnet,
    "mixed-ranges": mixed_ranges,
    "depthwise": depthwise,
    "auto": auto,
    "memory": memory,
    "optimize": optimize,
}


if __name__ == "__main__":
    run(__doc__, SECTIONS, dict.fromkeys(SECTIONS, PACKAGES))
