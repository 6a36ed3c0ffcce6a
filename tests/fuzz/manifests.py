"""Manifests as a stranger might write them: every value and file of real artifacts, changed by a seeded generator.

    python tests/fuzz/manifests.py --count 3000 --seed 1

Each changed artifact is given to commands of `mx` in a process of its own. A command may refuse it or, where the
change means nothing, take it. It may not end as an internal error, by a signal, or not at all; and it may open no
file that the change led to, nor write one anywhere but in the artifact's folder and the temporary one.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: seconds after which a command hangs
PATIENCE = 20.0

#: texts that a reader may stumble over; `Field.texts` adds paths that lead out of the artifact
TEXTS = (
    "", " ", "x" * 300, "x" * 100_000, "\x00", "\x1b[31mred", "line\nline", "\ud800", "\u202egnp", "[/bold]",
    "%s%n", "NaN", "-1", "null", "../", "..", ".", "/", "C:/x", "a\\b", "a:b", "a//b", "./model", "CON",
    "manifest.json", "MANIFEST.JSON", "golden.npz", '"; exit(0); //', "*/ exit(0); /*", "\\u000aexit(0);//",
    "$(id)", "${x}",
)  # fmt: skip
NUMBERS = (0, -1, 1, 2, 7, 255, 2**31, 2**31 - 1, -(2**31), 2**40, 2**62, 2**63 - 1, 2**63, -(2**63), 10**40)
FLOATS = (0.0, -0.0, 0.5, -1.5, 1e-300, 1e300, 1e308, float("nan"), float("inf"), float("-inf"))

#: what somebody who knows the formats would try: a place in the manifest, and what to put there
AIMED: tuple[tuple[str, Any], ...] = (
    ("details.session", {"session.optimized_model_filepath": "{new}"}),
    ("details.session", {"session.profile_output_file": "{new}"}),
    ("details.session", {"ep.context_enable": "1", "ep.context_file_path": "{new}"}),
    ("details.session", {"session.disable_quant_qdq": "1", "session.load_model_format": "ORT"}),
    ("details.rounded", "float8"),
    ("details.target_device", "../../x"),
    ("details.at_load", ["os.system"]),
    ("details.signatures", {"serving_default": {"batch": 2**62}}),
    ("details.signatures", {"other": {"nobody": 1}}),
    ("details.nhwc", ["x", "x", "nobody"]),
    ("details.bounds", {"batch": 0}),
    ("details.bounds", {"batch": -1}),
    ("details.bounds", {"batch": 2**63 - 1}),
    ("details.kernels", ["quantized_decomposed::x", "aten::nothing"]),
    ("details.delegates", {"NoBackend": 1}),
    ("details.backend", ["os"]),
    ("details.names", {"x": "y", "y": "x"}),
    ("details.image", {"input": "x", "scale": 0, "bias": [], "color": "RGB"}),
    ("details.classifier", {"output": "y"}),
    ("details.deployment_target", "iOS18\nexit(0)"),
    ("details.stands_in", {"format": "onnx", "entry": "../x", "details": {}}),
    ("details.stands_in", {"format": "onnx", "entry": "{secret}", "details": {"session": {"a": "b"}}}),
    ("details.quantization", {"mode": "x", "layers": [{}]}),
    ("details.layers", [{"name": 1}]),
    ("processing.text", {"tokenizer": "{secret}", "inputs": {"x": "ids"}, "pad_id": 0}),
    ("processing.text", {"tokenizer": "{fifo}", "inputs": {"x": "ids"}, "pad_id": 0}),
    ("processing.text", {"tokenizer": "golden.npz", "inputs": {"x": "ids"}, "pad_id": 2**40}),
    ("processing.text", None),
    ("processing.image", {"input": "x", "size": [10**9, 10**9]}),
    ("processing.labels", {"y": [1, 2]}),
    ("processing.embedding", "y"),
    ("processing.task", "text-classification"),
    ("dims.batch", {"min": 5, "max": 4, "multiple": 1}),
    ("dims.batch", {"min": 2**62, "max": None, "multiple": 1}),
    ("dims.batch", {"min": 1, "max": None, "multiple": 0}),
    ("dims.batch", {"min": 0, "max": 2**63 - 1, "multiple": 2**63 - 1}),
    ("inputs", []),
    ("outputs", []),
    ("inputs.0.shape", []),
    ("inputs.0.shape", [1] * 65),
    ("inputs.0.dtype", "bfloat16"),
    ("inputs.0.dtype", "object"),
    ("inputs.0.values", [1e308, -1e308]),
    ("inputs.0.values", "mask"),
    ("format", "captured"),
    ("format", "../onnx"),
    ("format", "tensorrt-llm"),
    ("precision", "int3"),
    ("verified", 1),
    ("verified", "structure"),
    ("schema", True),
    ("schema", 10**4000),
    ("entry", "golden.npz"),
    ("lineage.0.options", {"plugins": ["{secret}"], "timing-cache": "{new}"}),
    ("lineage.0.source", {"goal": {"evaluate": None}}),
)


@dataclass(frozen=True)
class Field:
    """The ground that artifacts stand on: beside them what no command may touch."""

    root: Path

    @property
    def outside(self) -> Path:
        return self.root / "outside"

    def prepare(self) -> Field:
        """Lay out the files that nobody may open: one with content, a FIFO, and a folder to write into."""
        self.outside.mkdir(parents=True)
        (self.outside / "secret").write_text("secret", encoding="utf-8")
        os.mkfifo(self.outside / "fifo")
        return self

    def places(self) -> dict[str, str]:
        return {name: str(self.outside / name) for name in ("secret", "fifo", "new")}

    def texts(self) -> tuple[str, ...]:
        """Texts that are no paths, and paths that lead out."""
        ways = [*self.places().values(), "../outside/secret", "../outside/fifo", "../outside/new", "/dev/zero"]
        return (*TEXTS, *ways)

    def touched(self) -> list[str]:
        """What was written outside since the beginning."""
        there = {path.name for path in self.outside.iterdir()}
        changed = (self.outside / "secret").read_text(encoding="utf-8") != "secret"
        return sorted(there - {"secret", "fifo"}) + ["secret"] * changed


# --------------------------------------------------------------------------------------- mutations


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a tree, the root's own left out."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*way, key)
        yield from places(item, (*way, key))


def parent(tree: Any, way: Sequence[Any]) -> Any:
    for key in way[:-1]:
        tree = tree[key]
    return tree


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def other_value(dice: random.Random, ground: Field) -> Any:
    """A value of any type."""
    kinds: list[Callable[[], Any]] = [
        lambda: None, lambda: dice.random() < 0.5, lambda: dice.choice(NUMBERS), lambda: dice.choice(FLOATS),
        lambda: dice.choice(ground.texts()), list, dict, lambda: deep(dice.choice((2, 40, 400))),
        lambda: [dice.choice(NUMBERS)] * dice.choice((1, 3, 1000)), lambda: {dice.choice(TEXTS): 1},
    ]  # fmt: skip
    return dice.choice(kinds)()


def changed_value(data: Any, dice: random.Random, ground: Field) -> str:
    """Something in the tree becomes something else, is gone, doubled or renamed, or is new."""
    way = dice.choice(list(places(data)))
    holder, key = parent(data, way), way[-1]
    deed = dice.choice(("value", "value", "value", "like", "like", "gone", "new", "renamed", "twice"))
    if deed == "value":
        holder[key] = other_value(dice, ground)
    elif deed == "like":  # of the type that it had
        before = holder[key]
        pool = ground.texts() if isinstance(before, str) else FLOATS if isinstance(before, float) else NUMBERS
        holder[key] = dice.choice(pool)
    elif deed == "gone":
        del holder[key]
    elif deed == "twice" and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    elif isinstance(holder, dict):
        new = dice.choice(("extra", *TEXTS[:12]))
        holder[new] = holder.pop(key) if deed == "renamed" else other_value(dice, ground)
    else:
        holder[key] = other_value(dice, ground)
    return f"{deed} at {'.'.join(map(str, way))[:80]}"


def filled(value: Any, names: dict[str, str]) -> Any:
    """`value` with the real places for `{secret}` and its like."""
    if isinstance(value, str):
        return next((path for name, path in names.items() if value == f"{{{name}}}"), value)
    if isinstance(value, dict):
        return {key: filled(item, names) for key, item in value.items()}
    return [filled(item, names) for item in value] if isinstance(value, list) else value


def aimed(data: Any, dice: random.Random, ground: Field) -> str:
    where, value = dice.choice(AIMED)
    way = [int(step) if step.isdigit() else step for step in where.split(".")]
    try:
        parent(data, way)[way[-1]] = filled(copy.deepcopy(value), ground.places())
    except (KeyError, IndexError, TypeError):
        data["details"]["stray"] = value
    return f"aimed at {where}"


def changed_text(text: str, dice: random.Random) -> tuple[str, bytes]:
    """The text of the file, so that it is no JSON, or JSON that readers understand differently."""
    ways: dict[str, Callable[[], bytes]] = {
        "truncated": lambda: text[: dice.randrange(len(text))].encode(),
        "a byte": lambda: _flipped(text.encode(), dice),
        "equal keys": lambda: text.replace('"schema"', '"entry": "../x", "schema"', 1).encode(),
        "a mark before": lambda: b"\xef\xbb\xbf" + text.encode(),
        "UTF-16": lambda: text.encode("utf-16"),
        "nested deep": lambda: text.replace('"details": {', '"details": {"a": ' + "[" * 10**5 + ",", 1).encode(),
        "a long number": lambda: text.replace('"schema": 1', '"schema": ' + "9" * 10**5, 1).encode(),
        "a surrogate": lambda: text.replace('"format": "', '"format": "\\ud83d', 1).encode(),
        "NaN": lambda: text.replace('"schema": 1', '"schema": NaN', 1).encode(),
        "nothing": lambda: b"",
        "two values": lambda: (text + text).encode(),
        "control characters": lambda: text.replace('"format": "', '"format": "\x01', 1).encode(),
    }
    name = dice.choice(list(ways))
    return f"text: {name}", ways[name]()


def _flipped(data: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << dice.randrange(8))]) + data[place + 1 :]


def changed_file(folder: Path, data: Any, dice: random.Random, ground: Field) -> str:
    """A file of the artifact is something else, or lies beside what the manifest says of it."""
    entry = dice.choice(data["files"])
    file = folder / entry["path"]
    deed = dice.choice(("link", "loop", "fifo", "folder", "device", "sha", "size", "case", "hard", "stranger"))
    if deed in ("link", "loop", "fifo", "folder", "device"):
        file.unlink()
    if deed == "link":
        file.symlink_to(ground.outside / "secret")
    elif deed == "loop":
        file.symlink_to(file.name)
    elif deed == "fifo":
        os.mkfifo(file)
    elif deed == "folder":
        file.mkdir()
    elif deed == "device":
        file.symlink_to("/dev/zero")
    elif deed == "sha":
        entry["sha256"] = dice.choice(("0" * 64, "0", "G" * 64, entry["sha256"].upper()))
    elif deed == "size":
        entry["size"] = dice.choice(NUMBERS)
    elif deed == "case":
        data["files"].append({**entry, "path": entry["path"].swapcase()})
    elif deed == "hard":
        os.link(file, ground.root / f"hard{dice.random()}")
    elif deed == "stranger":
        place = folder / dice.choice(("source", "processing", "notes", "."))
        place.mkdir(exist_ok=True)
        os.mkfifo(place / f"fifo{dice.randrange(10**6)}")
    return f"file: {deed}"


def mutated(artifact: Path, place: Path, dice: random.Random, ground: Field) -> str:
    """A changed copy of `artifact` at `place`; says in words what was changed."""
    shutil.copytree(artifact, place)
    file = place / "manifest.json"
    text = file.read_text(encoding="utf-8")
    data = json.loads(text)
    kind = dice.random()
    if kind < 0.1:
        what, raw = changed_text(text, dice)
        file.write_bytes(raw)
        return what
    if kind < 0.25:
        what = changed_file(place, data, dice, ground)
    elif kind < 0.45:
        what = aimed(data, dice, ground)
    else:
        what = "; ".join(changed_value(data, dice, ground) for _ in range(dice.choice((1, 1, 1, 2, 4))))
    file.write_text(json.dumps(data), encoding="utf-8")  # escapes, and NaN: whatever Python lets out
    return what


# --------------------------------------------------------------------------------------- what becomes of them


@dataclass
class Tally:
    """How many commands ended how, and what went wrong."""

    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        ends = ", ".join(f"{what} {count}" for what, count in sorted(self.ended.items()))
        return f"{ends}; {len(self.wrong)} wrong"


def watch(allowed: Sequence[Path], report: Callable[[str], object]) -> None:
    """Report, in this process, what is opened among the forbidden files, and what is written elsewhere."""
    own = tuple(os.path.realpath(path) for path in allowed)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], (str, bytes, os.PathLike)):
            return
        path, flags = os.path.realpath(os.fsdecode(arguments[0])), arguments[2] or 0
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        inside = any(path == place or path.startswith(f"{place}/") for place in own)
        if "/outside/" in path or path == "/dev/zero" or (writes and not inside and path != "/dev/null"):
            report(f"opened {path} ({'write' if writes else 'read'})")

    sys.addaudithook(hook)


def run(arguments: list[str], folder: Path, ground: Field) -> tuple[int | str, str]:
    """Exit code of one `mx` command in a fork of this process, and what it said on stderr or opened.

    The code is "hang" or the name of a signal where there is none.
    """
    said = ground.root / "said"
    child = os.fork()
    if not child:
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.setsid()
        allowed = [folder, ground.root / "made", Path(tempfile.gettempdir())]
        watch(allowed, lambda line: os.write(2, f"!! {line}\n".encode()))
        from modelexport.cli import _run

        code = 70
        try:
            code = _run(arguments)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    status, begun = None, time.monotonic()
    while status is None and time.monotonic() - begun < PATIENCE * (3 if arguments[0] in SLOW else 1):
        ended, found = os.waitpid(child, os.WNOHANG)
        status = found if ended else None
        time.sleep(0.002)
    if status is None:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    text = said.read_text(encoding="utf-8", errors="replace")
    if status is None:
        return "hang", text
    return (signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)), text


#: commands that start processes of their own, which import a runtime first
SLOW = ("verify", "benchmark", "quantize", "optimize")


def ones(inputs: Sequence[str]) -> list[str]:
    """Arguments of `mx run` that fill every input."""
    return [word for name in inputs for word in ("--input", f"{name}=1")]


def commands(
    folder: Path, made: Path, dice: random.Random, slow: float, inputs: Sequence[str]
) -> Iterator[list[str]]:
    """The commands that an artifact is given to: the slow ones to a share of them, `slow`."""
    yield ["inspect", str(folder)]
    yield ["run", str(folder), *dice.choice((ones(inputs), ones(inputs), ["--text", "hello"]))]
    if dice.random() < slow:
        command = dice.choice(SLOW)
        more = {"benchmark": ["--runs", "1", "--seconds", "0.1"], "verify": []}.get(
            command, ["-o", str(made / "out")]
        )
        yield [command, str(folder), *more]


def fuzz(artifacts: Sequence[Path], count: int, seed: int, ground: Field, slow: float = 0.0) -> Tally:
    """Change `count` artifacts, of each of `artifacts` in turn, and run the commands on them.

    Raises RuntimeError where an artifact that wasn't changed does not run: the changes would prove nothing.
    """
    tally, made = Tally(), ground.root / "made"
    made.mkdir()
    names = [[spec["name"] for spec in json.loads((a / "manifest.json").read_text())["inputs"]] for a in artifacts]
    for artifact, inputs in zip(artifacts, names, strict=True):
        code, said = run(["run", str(artifact), *ones(inputs)], artifact, ground)
        if code != 0:
            raise RuntimeError(f"{artifact} does not run: {said}")
    for number in range(count):
        dice, which = random.Random(f"{seed} {number}"), number % len(artifacts)
        folder = ground.root / artifacts[which].name
        what = mutated(artifacts[which], folder, dice, ground)
        for arguments in commands(folder, made, dice, slow, names[which]):
            code, said = run(arguments, folder, ground)
            tally.ended[f"{arguments[0]} {code if not code or isinstance(code, str) else 'refused'}"] += 1
            if isinstance(code, str) or "internal error" in said or "!! opened" in said or code in (1, 2, 70):
                tally.wrong.append(f"{number} {folder.name}, {what}: {arguments[0]} → {code}: {said[-600:]}")
            if code == 8 and arguments[0] == "inspect":
                break  # refused as it was read: every command reads it so
        if touched := ground.touched():
            tally.wrong.append(f"{number} {folder.name}, {what}: wrote {touched}")
        shutil.rmtree(folder)
        shutil.rmtree(made)
        made.mkdir()
    return tally


# --------------------------------------------------------------------------------------- real artifacts


#: format → what its commands import, so that forks find it there
RUNTIMES = {
    "onnx": ("onnxruntime", "onnx", "modelexport_onnx.session"),
    "torchscript": ("torch", "modelexport_torchscript.session"),
    "executorch": ("torch", "executorch.extension.pybindings._C"),
    "tflite": ("ai_edge_litert.interpreter", "modelexport_tflite.session"),
    "coreml": ("coremltools", "modelexport_coreml.session", "modelexport_coreml.interpreter"),
}


def preload(artifacts: Sequence[Path]) -> None:
    """Import what the artifacts' formats take, as far as it is installed."""
    formats = [json.loads((artifact / "manifest.json").read_text())["format"] for artifact in artifacts]
    for name in (
        "modelexport.api",
        "modelexport.cli",
        *(name for each in formats for name in RUNTIMES.get(each, ())),
    ):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def export(targets: Sequence[str], folder: Path) -> list[Path]:
    """A small network, exported for each of `targets`."""
    import modelexport
    import torch

    class Net(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer, self.head = torch.nn.Linear(8, 8), torch.nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.layer(x)))

    source = modelexport.Source(Net().eval(), inputs=("x:float32[batch=1..8,8]",), outputs=("y",), name="net")
    return [artifact.path for artifact in modelexport.export(source, targets, folder)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slow", type=float, default=0.03, help="share that the commands with processes get")
    parser.add_argument("--targets", default="onnx,torchscript,executorch,tflite,coreml")
    parser.add_argument("--artifacts", type=Path, help="a folder that keeps the exported artifacts between calls")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mx-fuzz-") as folder:
        kept = given.artifacts or Path(folder) / "artifacts"
        if not kept.is_dir():  # in a process of its own: converters start threads, and this one forks
            asked = (given.targets.split(","), kept)
            exporter = multiprocessing.get_context("spawn").Process(target=export, args=asked)
            exporter.start()
            exporter.join()
        artifacts = sorted(kept.glob("net.*"))
        preload(artifacts)
        begun = time.monotonic()
        tally = fuzz(artifacts, given.count, given.seed, Field(Path(folder) / "ground").prepare(), given.slow)
    for line in tally.wrong:
        print(line, end="\n\n")
    took = time.monotonic() - begun
    print(f"{given.count} changed manifests of {len(artifacts)} formats in {took:.0f} s: {tally}")
    sys.exit(bool(tally.wrong))


if __name__ == "__main__":
    main()
