"""An exporter of one linear layer to NumPy that is right with `defect=none`, and wrong in the way asked for.

The session computes `scores = x·W + b` and `doubled = 2·scores + 1`.
"""

import os
import signal
from dataclasses import dataclass

from modelexport import Build, MxError, Session, Target, Verb, hookimpl
from modelexport.contract import option
from modelexport.errors import CannotRunHere, RuntimeFailure


@dataclass(frozen=True)
class Options:
    defect: str = option("none", "what to do wrong")


@dataclass(frozen=True)
class Details:
    """What the manifest says of it."""

    defect: str


@hookimpl
def mx_target():
    return Target(
        name="rogue",
        summary="NumPy, and as wrong as it is told to be",
        consumes=("module",),
        verbs={"export": Verb(Options)},
        mutates=False,
        details=Details,
    )


@hookimpl
def mx_export(source, out, options):
    import numpy as np

    linear = source.module.linear
    if options.defect == "patch weights":
        linear.weight.data.zero_()
    if options.defect == "patch forward":
        source.module.forward = lambda x: {"scores": x, "doubled": x}
        linear.weight.data.copy_(linear.weight.data.new_ones(6).diag())
    if options.defect == "raises":
        raise KeyError("aten::nothing")
    if options.defect == "refuses":
        raise MxError("the layer is too wide", "make it narrower")
    weight, bias = (tensor.detach().numpy() for tensor in (linear.weight, linear.bias))
    np.savez(out / "model.npz", weight=weight, bias=bias)
    precision = "fp7" if options.defect == "unknown precision" else None
    return Build("model.npz", ("numpy",), precision, details={"defect": options.defect})


@hookimpl
def mx_run(artifact, options):
    import numpy as np

    # A flag from outside lets one artifact meet a machine that can't run it, and one that can.
    defect = artifact.details["defect"]
    if defect == "cannot run here" and not os.environ.get("ROGUE_HARDWARE"):
        raise CannotRunHere("a rogue accelerator is needed, and there is none here", "use another machine")
    if defect == "cannot load":
        raise RuntimeFailure("version 9 of the format is not known", "upgrade")
    if defect == "crash at load":
        os.kill(os.getpid(), signal.SIGSEGV)
    with np.load(artifact.entry_path) as data:
        weight, bias = data["weight"], data["bias"]
    buffers: dict = {}

    def call(inputs):
        if defect == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if defect == "exit":
            os._exit(0)
        x = inputs["x"]
        scores = x @ weight.T + bias
        doubled = scores * 2 + 1
        if defect == "checkerboard" and np.array_equal(x, np.indices(x.shape).sum(0) % 2):
            scores = scores + 1
        if defect == "nan" and len(x) > 1:
            scores[-1, -1] = np.nan
        if defect == "dtype":
            scores = scores.astype(np.float64)
        if defect == "one element":
            doubled[-1, -1] += 1e-2
        if defect == "transposed":
            scores = scores.T
        if defect == "prints":
            os.write(1, b'{"verified": true}\n')  # past Python, as runtimes in C++ do
        outputs = {"scores": scores, "doubled": doubled}
        if defect == "renamed":
            return {"logits": scores, "doubled": doubled}
        if defect == "missing":
            return {"scores": scores}
        if defect == "extra":
            return {**outputs, "debug": scores}
        if defect == "reordered":
            return {"scores": doubled, "doubled": scores}
        if defect == "own buffers":
            for name, array in outputs.items():
                kept = buffers.setdefault((name, array.shape), array.copy())
                kept[...] = array
            return {name: buffers[name, array.shape] for name, array in outputs.items()}
        return outputs

    return Session(call, artifact.inputs, artifact.outputs)
