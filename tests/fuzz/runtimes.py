"""Damaged model files, given to their runtimes: `mx run` ends in an error of its own, whatever is in them.

    python tests/fuzz/runtimes.py --count 500 --seed 1                  # 500 files of each format
    python tests/fuzz/runtimes.py --format executorch --through api     # into a process of the user's own
    python tests/fuzz/runtimes.py --make                                # export the artifacts in corpus/ again

The files are small real artifacts, in `corpus/`, damaged by a seeded generator: bits flipped, bytes drawn anew,
numbers set to what overflows, cut off, swapped, all of it random. The manifest's size and sha256 are set right
afterwards, so that it is the runtime that has to cope. Each run is a process of its own, forked off one that has
imported the runtime; what its exit status must not be is a signal, or that of a defect.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

CORPUS = Path(__file__).parent / "corpus"

#: format → the modules that its runtime consists of: imported once, before processes are forked off
RUNTIMES = {
    "onnx": ("onnxruntime",),
    "torchscript": ("torch",),
    "executorch": ("torch", "executorch.extension.pybindings._C"),
    "tflite": ("ai_edge_litert.interpreter",),
    "coreml": ("torch", "coremltools"),
}

#: seconds that one run may take
HANGS = 20

#: exit statuses of `mx run` for a file that is damaged, and for one that still runs: errors.py has them all
CLEAN = {0, 3, 4, 8, 9, 10, 11, 13, 14, 15}

_EXTREMES = (
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"\x00\x00\x00\x00",
    b"\x01\x00\x00\x00",
)


class Outcome(NamedTuple):
    """How one run ended: its exit status (negative for a signal, None for a hang), and what it said last."""

    status: int | None
    said: str

    @property
    def ok(self) -> bool:
        return self.status in CLEAN and "internal error" not in self.said and "Traceback" not in self.said


# --------------------------------------------------------------------------------------- damage


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The bytes of a file, damaged in one of several ways."""
    kind: Callable[[bytearray, random.Random], bytes | bytearray] = rng.choice(KINDS)
    return bytes(kind(bytearray(data), rng))


def _flipped(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def _drawn(data: bytearray, rng: random.Random) -> bytearray:
    start, length = rng.randrange(len(data)), rng.choice((1, 4, 16, 256))
    data[start : start + length] = rng.randbytes(len(data[start : start + length]))
    return data


def _extreme(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 1, 3))):
        start = rng.randrange(max(1, len(data) - 4)) & ~3
        data[start : start + 4] = rng.choice(_EXTREMES)
    return data


def _cut(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data))]


def _swapped(data: bytearray, rng: random.Random) -> bytearray:
    first, second = (rng.randrange(max(1, len(data) - 16)) for _ in range(2))
    data[first : first + 16], data[second : second + 16] = data[second : second + 16], data[first : first + 16]
    return data


def _random(data: bytearray, rng: random.Random) -> bytes:
    kept = rng.choice((0, 0, 8, 64))  # the first bytes say what kind of file it is
    return bytes(data[:kept]) + rng.randbytes(len(data) - kept)


KINDS = (_flipped, _flipped, _drawn, _extreme, _extreme, _cut, _swapped, _random)


def damage(artifact: Path, rng: random.Random) -> str:
    """Damage one file of an artifact in place, and set its manifest right. Returns the name of the file."""
    manifest = json.loads((artifact / "manifest.json").read_text())
    entries = [e for e in manifest["files"] if e["path"] != "golden.npz" and not e["path"].startswith("source/")]
    weights = [4 if e["path"].startswith(manifest["entry"]) else 1 for e in entries]
    entry = rng.choices(entries, weights)[0]
    data = damaged((artifact / entry["path"]).read_bytes(), rng)
    (artifact / entry["path"]).write_bytes(data)
    _correct(artifact, entry["path"], data)
    return str(entry["path"])


def _correct(artifact: Path, name: str, data: bytes) -> None:
    """Set size and sha256 of a file in the manifest to what they are."""
    manifest = json.loads((artifact / "manifest.json").read_text())
    entry = next(entry for entry in manifest["files"] if entry["path"] == name)
    entry.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    (artifact / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


# --------------------------------------------------------------------------------------- runs


def run_forked(work: Callable[[], int]) -> Outcome:
    """What becomes of a process that does `work`, whose result is its exit status."""
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.setsid()
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            status = 70
            try:
                status = work()
            finally:
                with contextlib.suppress(Exception):
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(status)
        code = _wait(child)
        said.seek(0)
        return Outcome(code, said.read().decode(errors="replace")[-2000:])


def _wait(child: int) -> int | None:
    deadline = time.monotonic() + HANGS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def through_cli(artifact: Path, values: Sequence[str]) -> int:
    """`mx run` as the command does it."""
    from modelexport import cli

    sys.argv = ["mx", "run", str(artifact), *values]
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)


def through_api(artifact: Path, values: Sequence[str]) -> int:
    """`mx.run`, and one call on the artifact's golden data."""
    import modelexport as mx
    from modelexport.errors import MxError
    from modelexport.toolkit import load_golden

    try:
        with mx.run(artifact) as session:
            session(load_golden(artifact / "golden.npz").cases[0].inputs)
    except MxError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


WAYS = {"cli": through_cli, "api": through_api}


def outcomes(
    format: str, count: int, seed: int, through: str = "cli", keep: Path | None = None
) -> Iterator[tuple[int, str, Outcome]]:
    """Seed, name of the damaged file and outcome of each of `count` runs; `keep` gets what was not clean."""
    for module in RUNTIMES[format]:
        import_module(module)
    good = CORPUS / f"net.{format}"
    values = [f"--input={name}" for name in ("x=0.5", "i=1")]
    with tempfile.TemporaryDirectory(prefix="mx-fuzz-") as folder:
        for number in range(seed, seed + count):
            place = Path(folder) / f"{number}.{format}"
            shutil.copytree(good, place)
            name = damage(place, random.Random(f"{format} {number}"))
            outcome = run_forked(lambda place=place: WAYS[through](place, values))  # type: ignore[misc]
            if keep is not None and not outcome.ok:
                shutil.copytree(place, keep / place.name, dirs_exist_ok=True)
            shutil.rmtree(place)
            yield number, name, outcome


# --------------------------------------------------------------------------------------- command


def make() -> None:
    """Export the artifacts in corpus/ again, each small, with a convolution, a matrix and a look-up."""
    import modelexport as mx

    source = Path(__file__).parent / "net.py"
    os.chdir(source.parent)  # the manifest says where the model came from, as it was given
    for format in RUNTIMES:
        with tempfile.TemporaryDirectory() as folder:
            options = {"keep-program": False} if format == "executorch" else {}
            (artifact,) = mx.export(f"{source.name}:net", format, folder, options=options)
            if format == "onnx":
                _without_places(artifact.path)
            shutil.rmtree(CORPUS / artifact.path.name, ignore_errors=True)
            shutil.copytree(artifact.path, CORPUS / artifact.path.name)


def _without_places(artifact: Path) -> None:
    """An ONNX artifact without the notes on each node, which name folders of the machine that wrote it."""
    import onnx

    model = onnx.load(artifact / "model.onnx")
    for node in model.graph.node:
        del node.metadata_props[:]
    del model.graph.metadata_props[:]
    data = model.SerializeToString()
    (artifact / "model.onnx").write_bytes(data)
    _correct(artifact, "model.onnx", data)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=100, help="damaged files of each format")
    parser.add_argument("--seed", type=int, default=0, help="number of the first")
    parser.add_argument("--format", choices=RUNTIMES, action="append", help="only this format")
    parser.add_argument("--through", choices=WAYS, default="cli", help="`mx run`, or mx.run in Python")
    parser.add_argument("--keep", type=Path, help="folder for the files whose runs were not clean")
    parser.add_argument("--make", action="store_true", help="export the artifacts that are damaged again")
    given = parser.parse_args()
    if given.make:
        make()
        return 0
    bad = 0
    for format in given.format or RUNTIMES:
        statuses: Counter[int | None] = Counter()
        begin = time.monotonic()
        for number, name, outcome in outcomes(format, given.count, given.seed, given.through, given.keep):
            statuses[outcome.status] += 1
            if not outcome.ok:
                bad += 1
                last = outcome.said.strip().splitlines()[-1:] or ["nothing"]
                print(f"{format} {number} {name}: status {outcome.status}, said {last[0][:300]}")
        counts = ", ".join(f"{number} × {status}" for status, number in statuses.most_common())
        print(f"{format}: {counts} in {time.monotonic() - begin:.0f} s", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
