"""Damaged model files given to their runtimes, a few of each format; `tests/fuzz/runtimes.py` takes more."""

import hashlib
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[1] / "fuzz"
#: files of each format; opening a Core ML package takes a second
COUNTS = {"coreml": 4}
COUNT = 12
RUNTIME_FAILURE = 13


@pytest.mark.parametrize("format", ["onnx", "torchscript", "executorch", "tflite", "coreml"])
def test_mx_run_ends_in_an_error_of_its_own(format):
    count = str(COUNTS.get(format, COUNT))
    command = [sys.executable, FUZZ / "runtimes.py", "--format", format, "--count", count, "--seed", "1000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert f"{format}: " in done.stdout


@pytest.mark.parametrize("format", ["executorch", "onnx", "tflite", "torchscript"])
def test_random_bytes_with_the_right_sha256_do_not_end_a_process_of_the_users(format, tmp_path):
    """Through mx.run, where nothing is forked: ten files in one process."""
    rng = random.Random(0)
    for number in range(10):
        place = tmp_path / f"{number}.{format}"
        shutil.copytree(FUZZ / "corpus" / f"net.{format}", place)
        manifest = json.loads((place / "manifest.json").read_text())
        entry = next(entry for entry in manifest["files"] if entry["path"] == manifest["entry"])
        head = (place / manifest["entry"]).read_bytes()[: (0, 8, 64)[number % 3]]
        data = head + rng.randbytes(4000)
        (place / manifest["entry"]).write_bytes(data)
        entry.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
        (place / "manifest.json").write_text(json.dumps(manifest))
    code = (
        "import sys, pathlib\nimport modelexport as mx\n"
        "for place in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    try:\n        mx.run(place)\n"
        "    except mx.MxError as error:\n        print(error.exit_code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.split()) == (0, [str(RUNTIME_FAILURE)] * 10), done.stderr[-2000:]
