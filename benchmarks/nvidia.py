"""Engines for NVIDIA GPUs, built on a machine without one: seconds, sizes, and what computes in which precision.

`engines` exports real models in every precision; the builder's seconds stand beside those of the library's own
calls on the same ONNX model, profiles and GPUs, each in a fresh process, in turns. Accuracy is that of the ONNX
model that went in, as ONNX Runtime computes it: no engine is run.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

import images
import modelexport
import texts
from modelexport.contract import Artifact
from quantize import SENTENCES, minilm_source
from sections import ROOT, Figure, Figures, Sections, mx, run

WORK = ROOT / "build" / "peers" / "nvidia"
SMS = "sm=sm86,sm89"
#: turns of the builder and of the bare calls
TURNS = 3

#: model → its reference, what holds its dims, and its precisions
MODELS: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "MiniLM": (str(minilm_source()), ("--dim", "batch=1..32"), ("fp32", "fp16", "bf16", "int8", "fp8", "int4")),
    "EfficientNet-Lite0": ("examples/models.py:efficientnet", ("--dim", "batch=1..32"), ("fp32", "fp16", "int8")),
    "detector": ("benchmarks/images.py:detector", (), ("fp32", "fp16")),
}

#: the library's own calls, and nothing else
BARE = """
import sys, time
import tensorrt_rtx as trt
onnx, sms, profile = sys.argv[1], sys.argv[2].split(","), [line.split() for line in sys.argv[3:]]
logger = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(logger)
begun = time.perf_counter()
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
assert trt.OnnxParser(network, logger).parse_from_file(onnx)
config = builder.create_builder_config()
config.num_compute_capabilities = len(sms)
for number, sm in enumerate(sms):
    config.set_compute_capability(getattr(trt.ComputeCapability, sm.upper()), number)
made = builder.create_optimization_profile()
for name, sizes in profile:
    made.set_shape(name, *([int(size) for size in shape.split("x")] for shape in sizes.split(":")))
config.add_optimization_profile(made)
plan = bytes(builder.build_serialized_network(network, config))
print(time.perf_counter() - begun, len(plan))
"""


def engines() -> Figures:
    """Real models in every precision, for two generations of GPUs in one engine."""
    for name, (source, held, precisions) in MODELS.items():
        for precision in precisions:
            made = engine(name, source, held, precision)
            what = f"{name} {precision}"
            yield Figure(f"{what}: MB", made.size / 1e6)
            yield Figure(f"{what}: seconds of the builder", made.details["build_seconds"])
            counts = Counter(layer.precision or "–" for layer in made.layers)
            yield Figure(f"{what}: layers", ", ".join(f"{count} {kind}" for kind, count in counts.most_common()))
            yield Figure(f"{what}: the ONNX model", _proof(made))
        yield from _beside_bare(name, modelexport.load(WORK / f"{name}.tensorrt"))


def engine(name: str, source: str, held: Sequence[str], precision: str) -> Artifact:
    path = WORK / (f"{name}.tensorrt" if precision == "fp32" else f"{name}.{precision}.tensorrt")
    asked = ["--precision", precision] if precision != "fp32" else []
    gpus = SMS if precision != "fp8" else "sm=sm89"
    if precision in ("int8", "fp8"):
        asked += ["--calibration", calibration(name), "--samples", "128"]
    mx("export", source, "-t", "tensorrt", *held, "-k", gpus, *asked, "-o", WORK, "--name", name)
    return modelexport.load(path)


def calibration(name: str) -> str:
    """Texts or photographs, as files."""
    WORK.mkdir(parents=True, exist_ok=True)
    if name == "MiniLM":
        file = WORK / "sentences.txt"
        file.write_text("\n".join(texts.sentences(SENTENCES)) + "\n", encoding="utf-8")
        return str(file)
    return str(images.save_crops(WORK / "crops", 128))


def _proof(made: Artifact) -> str:
    """What is proven of the model that the engine was built from."""
    facts = made.details["onnx"]
    worst = facts.get("worst", {})
    shown = f"verified: {facts.get('verified')}, cosine {worst['cosine']:.6f}" if worst else f"{facts}"
    if "quantization" in made.details and (score := made.quantization_report().score):
        shown += f", {score['metric']} {score['score']:.4f} on {score['samples']} {score['data']}"
    return shown


def _beside_bare(name: str, made: Artifact) -> Figures:
    """The builder called by `mx` and the library's own calls, in turns; each in a process of its own."""
    sizes = [f"{tensor} {said.split()[-1]}" for tensor, said in made.details["tensors"].items() if ":" in said]
    onnx = str(made.path / "source" / "model.onnx")
    own, bare = [], []
    for _ in range(TURNS):
        done = subprocess.run(
            [sys.executable, "-c", BARE, onnx, ",".join(made.details["sm"]), *sizes],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        bare.append(float(done.stdout.split()[0]))
        mx("export", onnx, "-t", "tensorrt", "-k", f"sm={','.join(made.details['sm'])}",
           "-k", f"profile={made.details['profiles'][0]}", "-k", "keep-onnx=false", "--no-verify",
           *(part for spec in made.inputs for part in ("--input", str(spec))),
           "-o", WORK, "--name", f"{name}.again")  # fmt: skip
        own.append(float(modelexport.load(WORK / f"{name}.again.tensorrt").details["build_seconds"]))
    yield Figure(f"{name}: bytes, beside the library's", made.details["bytes"] / int(done.stdout.split()[1]))
    yield Figure(f"{name}: seconds, beside the library's", median(own) / median(bare), at_most=1.25)


SECTIONS: Sections = {"engines": engines}
PACKAGES = {"engines": ("modelexport-tensorrt", "tensorrt-rtx", "onnxruntime", "torch")}


if __name__ == "__main__":
    run(__doc__, SECTIONS, PACKAGES)
