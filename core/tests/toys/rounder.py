"""One linear layer in NumPy that can be quantized: its weights are rounded to a number of bits, per tensor.

`scores = x·W + b`, and `best = argmax(scores)`. With `mode=static`, inputs are clipped to their range in the
calibration data too. `find` looks for the fewest bits that hold the goal.

The environment variable TOY_LOG names a file that gets a line for each step, and one for the number of samples
calibrated on; TOY_KILLED names the step in which the process is killed.
"""

import os
import signal
from dataclasses import dataclass

from modelexport import Build, Session, Target, Verb, hookimpl
from modelexport.contract import QuantizationReport, QuantizedLayer, Trial, option
from modelexport.errors import CannotRunHere, OptionError


@dataclass(frozen=True)
class ExportOptions:
    scale: float = option(1.0, "factor of the weights, to change what is written")


@dataclass(frozen=True)
class OptimizeOptions:
    precision: str = option("float32", "float32 or float16")


@dataclass(frozen=True)
class QuantizeOptions:
    mode: str = option("weights", "weights, static, bare (returns no report) or broken (all weights 1)")
    bits: int = option(8, "bits of a weight")
    find: bool = option(False, "try more bits until the goal holds")


@hookimpl
def mx_target():
    return Target(
        name="rounder",
        summary="NumPy, rounded",
        consumes=("module",),
        verbs={
            "export": Verb(ExportOptions),
            "optimize": Verb(OptimizeOptions, precisions={"int8": {}, "fp16": {"precision": "float16"}}),
            "quantize": Verb(QuantizeOptions, precisions={"int8": {"mode": "weights"}}),
        },
    )


def log(line):
    if os.environ.get("TOY_LOG"):
        with open(os.environ["TOY_LOG"], "a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    if os.environ.get("TOY_KILLED") == line:
        os.kill(os.getpid(), signal.SIGKILL)


@hookimpl
def mx_check(options, source, calibrated):
    if "quantize" in options and options["quantize"].mode == "static" and not calibrated:
        raise OptionError("static takes ranges from data", "give --calibration")
    if source is not None and "export" in options and options["export"].scale == 0:
        raise OptionError(f"scale=0 makes nothing of {source.specs[0]}", "give another one")


@hookimpl
def mx_export(source, out, options):
    import numpy as np

    log("export rounder")
    linear = source.module.linear
    weight, bias = (tensor.detach().numpy() for tensor in (linear.weight, linear.bias))
    np.savez(out / "model.npz", weight=weight * np.float32(options.scale), bias=bias)
    return Build("model.npz", tools=("numpy",))


@hookimpl
def mx_optimize(artifact, out, options):
    import numpy as np

    log("optimize rounder")
    arrays = load(artifact.entry_path)
    if options.precision == "float16":
        arrays["weight"] = arrays["weight"].astype(np.float16)
    np.savez(out / "model.npz", **arrays)
    return Build("model.npz", tools=("numpy",), precision=options.precision)


@hookimpl
def mx_quantize(artifact, out, options, calibration, goal):
    import numpy as np

    log("quantize rounder")
    log(f"{0 if calibration is None else len(calibration)} samples")
    arrays = load(artifact.entry_path)
    if options.mode == "broken":
        arrays["weight"] = np.ones_like(arrays["weight"])
    elif options.mode == "static":
        values = [sample["x"] for sample in calibration]
        low, high = min(v.min() for v in values), max(v.max() for v in values)
        arrays |= {"low": low, "high": high}
    trials = []
    for bits in range(options.bits, 17) if options.find else [options.bits]:
        candidate = {**arrays, **_rounded(arrays["weight"], bits)}
        with Session(player(candidate), artifact.inputs, artifact.outputs) as session:
            drop = goal.drop(session) if goal else None
        held = goal is None or goal.holds(drop)
        trials.append(Trial(f"{bits} bits", drop, simulated=True, verdict="holds" if held else ""))
        if held:
            break
    np.savez(out / "model.npz", **candidate)
    if options.mode == "bare":
        return Build("model.npz", precision="int8")
    weight = arrays["weight"]
    layer = QuantizedLayer(
        "linear", "Gemm", f"int{bits}", (float(weight.min()), float(weight.max())), sqnr=6.0 * bits
    )
    report = QuantizationReport(
        options.mode, {"bits": bits}, (layer,), tuple(trials), calibrated=options.mode == "static"
    )
    return Build("model.npz", tools=("numpy",), precision="int8", quantization=report)


def _rounded(weight, bits):
    import numpy as np

    step = np.abs(weight).max() / (2 ** (bits - 1) - 1)
    return {"weight": np.round(weight / step).astype(np.int8 if bits <= 8 else np.int16), "step": step}


def load(path):
    import numpy as np

    with np.load(path, allow_pickle=False) as data:
        return dict(data)


def player(arrays):
    import numpy as np

    weight = (arrays["weight"].astype(np.float32) * arrays.get("step", np.float32(1))).astype(np.float32)

    def call(inputs):
        x = inputs["x"]
        if "low" in arrays:
            x = np.clip(x, arrays["low"], arrays["high"])
        scores = x @ weight.T + arrays["bias"]
        return {"scores": scores.astype(np.float32), "best": scores.argmax(-1)}

    return call


@hookimpl
def mx_run(artifact, options):
    if os.environ.get("ROUNDER_ABSENT"):
        raise CannotRunHere("there is no abacus here", "use another machine")
    return Session(player(load(artifact.entry_path)), artifact.inputs, artifact.outputs)
