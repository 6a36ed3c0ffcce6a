"""Targets of phones and small devices: real models for all of them in one command, and what int8 does on each.

`together` exports four models; a section for each target quantizes FashionNet, and judges it on 10,000 labelled
images. Each prints the commands that it gives and what came of them. No device is at hand: numbers are what the
runtimes of a desktop compute, and times are left out where they are not those of the device's runtime.
`benchmarks/devices.py coreml` runs one section.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import images
import modelexport
import numpy as np
from modelexport.contract import QuantizationReport
from quantize import latency, minilm_source, size_ratio
from sections import ROOT, Figure, Figures, Sections, mx, run

WORK = ROOT / "build" / "peers" / "devices"
NET = "benchmarks/images.py:fashion_net"
SCORE = "benchmarks/images.py:fashion_accuracy"
SAMPLES = 200

# --------------------------------------------------------------------------------------- what sections share


def exported(target: str, name: str, *arguments: str) -> Path:
    """FashionNet for a target, trained the first time; an artifact that is there is used again."""
    path = WORK / f"{name}.{target}"
    if not path.is_dir():
        mx("export", NET, "-t", target, "-o", WORK, "--name", name, *arguments)
    return path


@cache
def calibration() -> Path:
    """Images of the training data, none of which is among those that the result is judged on."""
    path = WORK / "fashion.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, image=images.fashion("train")[0][:SAMPLES])
    return path


def quantized(plain: Path, kind: str, *arguments: str | Path) -> tuple[Path, QuantizationReport]:
    """A copy that is judged on every test image; also where it failed its gate, which the figures then show."""
    path = plain.with_name(f"{plain.stem}.{kind}{plain.suffix}")
    done = mx("quantize", plain, "-o", path, *arguments, "--evaluate", SCORE, may_fail=True)
    failed = path.with_name(f"{path.name}.failed")
    if done.code and not failed.is_dir():
        raise SystemExit(done.text)
    found = failed if done.code else path
    return found, modelexport.load(found).quantization_report()


def beside(
    plain: Path, path: Path, report: QuantizationReport, what: str, smaller: float, lost: float
) -> Iterator[Figure]:
    """Size and accuracy of a copy, and the limits that they should keep."""
    yield Figure(f"{what}: gate", "passed" if modelexport.load(path).parity.verified else "FAILED")
    yield Figure(f"{what}: size", size_ratio(path, plain), at_most=smaller)
    yield Figure(f"{what}: top-1, before", report.score.baseline)
    yield Figure(f"{what}: top-1, after", report.score.score)
    yield Figure(f"{what}: top-1, lost", report.score.drop, at_most=lost)


# --------------------------------------------------------------------------------------- one command for all

#: the targets of `together`, and the one that times are relative to
TARGETS = ("coreml", "tflite", "executorch", "onnx")

#: model → its reference, the dims that are held narrower, and sizes to time it at
MODELS: Mapping[str, tuple[str, tuple[str, ...], Mapping[str, int]]] = {
    "MiniLM": (
        str(minilm_source()),
        ("tflite.batch=1", "tflite.sequence=16..128/16", "executorch.batch=1..8", "coreml.batch=1..8"),
        {"batch": 1, "sequence": 128},
    ),
    "EfficientNet-Lite0": ("examples/models.py:efficientnet", ("batch=1..8",), {"batch": 1}),
    "CREPE": ("examples/models.py:crepe", ("batch=1..64",), {"batch": 16}),
    "FashionNet": (NET, ("batch=1..64",), {"batch": 8}),
}


def together() -> Figures:
    """Real models, each captured once and exported to all targets in one command; p50 beside ONNX Runtime's."""
    for name, (source, dims, sizes) in MODELS.items():
        asked = [part for target in TARGETS for part in ("-t", target)]
        held = [part for dim in dims for part in ("--dim", dim)]
        if not all((WORK / f"{name}.{target}").is_dir() for target in TARGETS):
            mx("export", source, *asked, *held, "-o", WORK, "--name", name)
        made = {target: modelexport.load(WORK / f"{name}.{target}") for target in TARGETS}
        for target, artifact in made.items():
            yield Figure(f"{name} {target}: MB", artifact.size / 1e6)
            worst = max(row.max_abs for row in artifact.parity.outputs)
            yield Figure(f"{name} {target}: max abs", f"{worst:.1e}")
            if found := artifact.details.get("delegated"):
                yield Figure(f"{name} {target}: delegated", f"{found['operators']} of {found['of']} operators")
        timed = [made[target].path for target in ("tflite", "executorch")]
        for path, ratio in zip(timed, latency(timed, made["onnx"].path, **sizes), strict=True):
            yield Figure(f"{name} {path.suffix[1:]}: p50", ratio, at_most=None if name == "MiniLM" else 1.25)


# --------------------------------------------------------------------------------------- targets


def coreml() -> Figures:
    """Core ML, interpreted off a Mac: its times are PyTorch's, and say nothing of a device."""
    wide = exported("coreml", "fashion")
    yield from beside(wide, *quantized(wide, "int8"), "int8 weights", 0.32, 0.005)
    four = ["-k", "mode=palettize", "-k", "bits=4"]
    yield from beside(wide, *quantized(wide, "palette4", *four), "4-bit palettes", 0.25, 0.01)
    half = exported("coreml", "fashion.half", "-k", "compute-precision=float16")
    yield Figure("float16: size", size_ratio(half, wide), at_most=0.55)
    eight = ["-k", "mode=activations", "--calibration", calibration(), "--samples", str(SAMPLES)]
    path, report = quantized(half, "w8a8", *eight)
    yield from beside(wide, path, report, "int8 weights and activations", 0.40, 0.005)


def static() -> list[str | Path]:
    return ["-k", "mode=static", "--calibration", calibration(), "--samples", str(SAMPLES)]


def faster(plain: Path, copies: Mapping[str, Path], limit: float) -> Figures:
    """p50 of each copy relative to float32, in the runtime of a desktop."""
    for batch in (1, 8):
        for what, ratio in zip(copies, latency(list(copies.values()), plain, batch=batch), strict=True):
            yield Figure(f"{what}: p50, batch {batch}", ratio, at_most=limit)


def tflite() -> Figures:
    """LiteRT with XNNPACK, on this machine's CPU."""
    plain = exported("tflite", "fashion", "--dim", "batch=1..64")
    dynamic, report = quantized(plain, "dynamic", "-k", "mode=dynamic")
    yield from beside(plain, dynamic, report, "dynamic int8", 0.32, 0.005)
    full, report = quantized(plain, "static", *static())
    yield from beside(plain, full, report, "static int8", 0.32, 0.005)
    half, report = quantized(plain, "half", "-k", "mode=float16")
    yield from beside(plain, half, report, "float16", 0.55, 0.001)
    yield from faster(plain, {"dynamic int8": dynamic, "static int8": full}, 0.8)


def executorch() -> Figures:
    """ExecuTorch with XNNPACK, on this machine's CPU."""
    plain = exported("executorch", "fashion", "--dim", "batch=1..64")
    full, report = quantized(plain, "static", *static())
    yield from beside(plain, full, report, "static int8", 0.32, 0.005)
    yield from faster(plain, {"static int8": full}, 0.8)


# --------------------------------------------------------------------------------------- the run

SECTIONS: Sections = {
    "together": together,
    "coreml": coreml,
    "tflite": tflite,
    "executorch": executorch,
}
PACKAGES = {
    "together": ("litert-torch", "ai-edge-litert", "executorch", "coremltools", "onnxruntime", "torch"),
    "coreml": ("modelexport-coreml", "coremltools", "torch"),
    "tflite": ("modelexport-tflite", "litert-torch", "ai-edge-litert", "ai-edge-quantizer", "torch"),
    "executorch": ("modelexport-executorch", "executorch", "torchao", "torch"),
}


if __name__ == "__main__":
    run(__doc__, SECTIONS, PACKAGES)
