"""Export a Hugging Face folder with Optimum and quantize it, by the two commands of its documentation.

Runs in Optimum's own environment: `python optimum_export.py MODEL OUT avx512_vnni [per_channel]`. What is in OUT
already is kept. Prints the files, the commands and the packages' versions as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("optimum", "optimum-onnx", "transformers", "torch", "onnx", "onnxruntime", "numpy")


def make(folder: Path, command: list[str]) -> str:
    """Run a command that makes a folder, whole or not at all, unless it is there; return what a user types."""
    partial = folder.with_name(f"{folder.name}.partial")
    if not folder.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
        program = Path(sys.executable).with_name("optimum-cli")
        offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
        subprocess.run([program, *command, str(partial)], check=True, env=offline, stdout=sys.stderr)
        partial.rename(folder)
    return " ".join(["optimum-cli", *(Path(word).name if "/" in word else word for word in command), folder.name])


def main(model: Path, out: Path, recipe: list[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    plain, small = out / "float32", out / "_".join(["int8", *recipe])
    flags = [f"--{word}" for word in recipe]
    commands = [
        # the task is named because inferring it from a folder's README is not a thing to depend on
        make(plain, ["export", "onnx", "--model", str(model), "--task", "feature-extraction"]),
        make(small, ["onnxruntime", "quantize", "--onnx_model", str(plain), *flags, "-o"]),
    ]
    report = {
        "files": {"float32": str(plain / "model.onnx"), "int8": str(small / "model_quantized.onnx")},
        "commands": commands,
        "versions": {package: version(package) for package in PACKAGES},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
