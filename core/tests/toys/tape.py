"""The target that core's tests export to: the captured program as a list of NumPy calls, in one file.

Writing a tape takes torch, running one NumPy alone, so a verification costs what NumPy costs to import. It is a
faithful converter but for what a naive one gets wrong: buffers are constants, so the state of a model is lost.

    export     options of every type
    quantize   weights rounded to `bits`, in place
    run        in `threads` and on `devices` that only the session's details know of
    snippets   in two languages
    source     a `.tape` file by itself

The environment variable TOY_LOG names a file that gets a line for each step.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelexport.contract import (
    Build,
    QuantizationReport,
    Session,
    Source,
    Target,
    TensorSpec,
    Verb,
    check_file,
    hookimpl,
    option,
)
from modelexport.errors import ConversionError, OptionError, SourceError

FILE = "model.tape"

#: keywords of a call that NumPy does without: the dtype of its result is written beside it
PLACES = {"dtype", "device", "layout", "pin_memory"}


@dataclass(frozen=True)
class ExportOptions:
    """How a tape is written."""

    version: int = option(2, "version of the format, 1 to 3")
    compact: bool = option(True, "write no spaces")
    weights: Literal["inside", "beside"] = option("inside", "whether the weights have a file of their own")
    words: tuple[str, ...] = option((), "words to write at its head")
    licence: str | None = option(None, "a text file to write at its head")
    escape: bool = option(False, "give snippets a name outside their folder")

    def __post_init__(self):
        if not 1 <= self.version <= 3:
            raise OptionError(f"version {self.version} can't be written", "versions are 1 to 3: -k version=3")
        check_file("licence", self.licence)


@dataclass(frozen=True)
class QuantizeOptions:
    """How a tape is rounded."""

    bits: int = option(8, "bits of a weight")


@dataclass(frozen=True)
class RunOptions:
    """How a tape is played."""

    threads: int = option(0, "threads; 0 for all")
    devices: tuple[Literal["abacus", "cpu"], ...] = option(("cpu",), "what to play it on, best first")


@dataclass(frozen=True)
class Details:
    """What the manifest says of a tape."""

    version: int = 1
    operators: tuple[str, ...] = ()
    escape: bool = False


@hookimpl
def mx_target():
    return Target(
        name="tape",
        summary="a list of NumPy calls",
        verbs={
            "export": Verb(ExportOptions, needs=("torch",), install="pip install torch"),
            "quantize": Verb(QuantizeOptions, precisions={"int8": {}}),
            "run": Verb(RunOptions, needs=("numpy",)),
        },
        snippets=("cobol", "forth"),
        details=Details,
    )


def operators():
    """What NumPy calls each operator."""
    import numpy as np

    def conv2d(x, weight, bias, stride=(1, 1), padding=(0, 0)):
        x = np.pad(x, ((0, 0), (0, 0), *((size, size) for size in padding)))
        windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))
        y = np.einsum("nchwij,ocij->nohw", windows[:, :, :: stride[0], :: stride[1]], weight)
        return y if bias is None else y + bias[:, None, None]

    def conv_transpose2d(x, weight, bias, stride):
        assert list(weight.shape[2:]) == stride, "windows that overlap"
        y = np.einsum("nchw,coij->nohiwj", x, weight)
        return y.reshape(*y.shape[:2], y.shape[2] * y.shape[3], -1) + bias[:, None, None]

    def batch_norm(x, weight, bias, mean, var, training, momentum, eps, *_):
        return (x - mean[:, None, None]) * (weight / np.sqrt(var + eps))[:, None, None] + bias[:, None, None]

    erf = np.vectorize(math.erf, otypes="f")
    return {
        "aten.add.Tensor": np.add, "aten.add_.Tensor": np.add, "aten.sub.Tensor": np.subtract,
        "aten.mul.Tensor": np.multiply, "aten.div.Tensor": np.divide, "aten.copy_.default": lambda old, new: new,
        "aten.sum.default": np.sum, "aten.sum.dim_IntList": lambda x, axes: x.sum(tuple(axes)),
        "aten.mean.default": np.mean, "aten.mean.dim": lambda x, axes: x.mean(tuple(axes)),
        "aten.amax.default": lambda x, axes: x.max(tuple(axes)),
        "aten.tanh.default": np.tanh, "aten.square.default": np.square, "aten.log.default": np.log,
        "aten.relu.default": lambda x: x.clip(0), "aten.gelu.default": lambda x: x * (1 + erf(x / 2**0.5)) / 2,
        "aten.dropout.default": lambda x, *_: x, "aten.contiguous.default": lambda x: x,
        "aten.to.dtype": lambda x, dtype: x.astype(dtype), "aten.zeros_like.default": np.zeros_like,
        "aten.gt.Scalar": np.greater, "aten.where.self": np.where, "aten.transpose.int": np.swapaxes,
        "aten.view.default": np.reshape,
        "aten._assert_tensor_metadata.default": lambda x: None,
        "aten.linear.default": lambda x, weight, bias=0: x @ weight.T + bias,
        "aten.embedding.default": lambda table, ids, *_: table[ids],
        "aten.upsample_nearest2d.vec": lambda x, _, by: x.repeat(int(by[0]), 2).repeat(int(by[1]), 3),
        "aten.conv2d.default": conv2d, "aten.conv_transpose2d.input": conv_transpose2d,
        "aten.batch_norm.default": batch_norm,
    }  # fmt: skip


def log(line):
    if os.environ.get("TOY_LOG"):
        with open(os.environ["TOY_LOG"], "a", encoding="utf-8") as file:
            file.write(f"{line}\n")


# --------------------------------------------------------------------------------------- writing


@hookimpl
def mx_export(source, out, options):
    log("export tape")
    if source.format == "tape":
        (out / FILE).write_bytes(source.path.read_bytes())
        return Build(FILE)
    known, program = operators(), source.program
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    unknown = {str(node.target) for node in nodes if str(node.target) not in known or set(node.kwargs) - PLACES}
    if unknown:
        raise ConversionError(f"tape has no call for {', '.join(sorted(unknown))}", "add it to operators()")
    weights = _weights(program)
    tape = {
        "version": options.version,
        "head": [*options.words, *([Path(options.licence).read_text()] if options.licence else [])],
        "inputs": [str(spec) for spec in source.inputs],
        "outputs": [spec.name for spec in source.outputs],
        "taken": program.graph_signature.user_inputs,
        "calls": [(node.name, str(node.target), node.args, _dtype(node)) for node in nodes],
        "given": [name for name in program.graph_signature.user_outputs if name is not None],
    }
    separators = (",", ":") if options.compact else None
    text = json.dumps(tape, default=_encoded, separators=separators)
    _write(out, text, weights, beside=options.weights == "beside")
    kinds = sorted({str(node.target).split(".")[1] for node in nodes})
    details = {"version": options.version, "operators": kinds, "escape": options.escape}
    return Build(FILE, tools=("torch", "numpy"), details=details)


def _weights(program):
    tensors = {**program.state_dict, **program.constants}
    specs = program.graph_signature.input_specs
    return {spec.arg.name: tensors[spec.target].detach().numpy() for spec in specs if spec.target}


def _dtype(node):
    """The dtype of a call's result: PyTorch and NumPy promote differently. None for what is no tensor."""
    return str(getattr(node.meta.get("val"), "dtype", "")).removeprefix("torch.") or None


def _encoded(value):
    """An argument that JSON does not know: another call's result, or a dtype."""
    return {"value": value.name} if hasattr(value, "name") else {"dtype": str(value).removeprefix("torch.")}


def _write(out, text, weights, beside=False):
    import numpy as np

    arrays = {"tape": np.array(text), **({} if beside else weights)}
    files = {FILE: arrays, **({f"{FILE}.weights": weights} if beside else {})}
    for name, content in files.items():
        with (out / name).open("wb") as stream:
            np.savez(stream, **content)


def _read(path):
    """The tape, and its weights by name."""
    import numpy as np

    with np.load(path, allow_pickle=False) as data:
        arrays = dict(data)
    beside = path.with_name(f"{path.name}.weights")
    if beside.is_file():
        with np.load(beside, allow_pickle=False) as data:
            arrays |= dict(data)
    return json.loads(arrays.pop("tape").item()), arrays


@hookimpl
def mx_quantize(artifact, out, options, calibration):
    import numpy as np

    log("quantize tape")
    tape, weights = _read(artifact.entry_path)
    for name, array in weights.items():
        if array.ndim > 1:
            step = np.abs(array).max() / (2 ** (options.bits - 1) - 1)
            weights[name] = (np.round(array / step) * step).astype(array.dtype)
    _write(out, json.dumps(tape), weights)
    report = QuantizationReport("weights", {"bits": options.bits})
    return Build(FILE, tools=("numpy",), precision="int8", quantization=report)


# --------------------------------------------------------------------------------------- running


def player(path):
    """A function from arrays to arrays, both by name."""
    import numpy as np

    (tape, weights), known = _read(path), operators()
    names = [text.partition(":")[0] for text in tape["inputs"]]

    def decoded(value, values):
        if isinstance(value, list):
            return [decoded(each, values) for each in value]
        if isinstance(value, dict):
            return values[value["value"]] if "value" in value else value["dtype"]
        return value

    def play(inputs):
        values = weights | {place: inputs[name] for place, name in zip(tape["taken"], names, strict=True)}
        with np.errstate(all="ignore"):
            for name, operator, arguments, dtype in tape["calls"]:
                values[name] = np.asarray(known[operator](*decoded(arguments, values)), dtype)
        given = zip(tape["outputs"], tape["given"], strict=True)
        return {name: values[value] for name, value in given}

    return play


@hookimpl
def mx_run(artifact, options):
    details = {"threads": options.threads, "devices": list(options.devices)}
    return Session(player(artifact.entry_path), artifact.inputs, artifact.outputs, details=details)


@hookimpl
def mx_benchmark(inputs):
    return {"values": sum(array.size for array in inputs.values())}


@hookimpl
def mx_snippet(artifact, language):
    name = "../escaped" if artifact.details["escape"] else f"run.{language}"
    listed = ", ".join(map(str, (*artifact.inputs, *artifact.outputs)))
    return {name: f"{language}: {Path(artifact.entry).name} {artifact.precision} {listed}\n"}


# --------------------------------------------------------------------------------------- existing files


@hookimpl
def mx_load(ref, options):
    path = Path(ref)
    if path.suffix != ".tape":
        return None
    if not path.is_file():
        raise SourceError(f"no file {path}", "give the path of a .tape file")
    try:
        tape, _ = _read(path)
    except (ValueError, OSError, KeyError) as error:
        raise SourceError(f"{path} is no tape: {error}", "export the model again") from error
    inputs = options.inputs or tuple(map(TensorSpec.parse, tape["inputs"]))
    return Source(inputs=inputs, outputs=tuple(tape["outputs"]), format="tape", path=path, reference=player(path))
