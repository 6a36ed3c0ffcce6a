"""model.tflite → Session: LiteRT's interpreter, resized only when a size changes.

LiteRT has no 64-bit integers in most operators, so files hold 32-bit ones; quantized files may take and return
integers; files with channels last take images transposed. A session has the model's own interface in every case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from modelexport.contract import Artifact, Session, TensorSpec
from modelexport.errors import InputError, RuntimeFailure, first_line

if TYPE_CHECKING:
    from modelexport.contract import Array, Arrays

    from . import RunOptions

#: runs one signature on arrays in the file's own dtypes
Invoke = Callable[["Arrays"], "Arrays"]


class Slot(NamedTuple):
    """One input or output of the file: its tensor, dtype, sizes, and the scale and zero point of its integers."""

    tensor: int
    dtype: Any
    shape: tuple[int, ...]
    scale: float
    zero: int


def open_artifact(artifact: Artifact, options: RunOptions) -> Session:
    """A Session on the artifact. Raises RuntimeFailure for a damaged file, or operators that LiteRT lacks."""
    interpreter = load(artifact.entry_path, options.threads, options.delegate)
    names = [spec.name for spec in artifact.inputs], [spec.name for spec in artifact.outputs]
    listed: Mapping[str, Mapping[str, int]] = artifact.details.get("signatures", {})
    first: Direct | Runner
    if listed:
        runners = {tuple(sizes.values()): Runner(interpreter, key) for key, sizes in listed.items()}
        first = next(iter(runners.values()))
        invoke: Invoke = _chooser(artifact.inputs, list(next(iter(listed.values()))), runners)
    else:
        first = Direct(interpreter, *names)
        invoke = first
    nhwc = artifact.details.get("nhwc", ())
    call = _caller(artifact.inputs, artifact.outputs, first.inputs, first.outputs, invoke, nhwc)
    how = {"delegate": options.delegate, "threads": options.threads or "LiteRT's choice"}
    return Session(call, artifact.inputs, artifact.outputs, details=how)


def load(path: Path, threads: int = 0, delegate: str = "xnnpack") -> Any:
    """An interpreter on a file, its tensors allocated."""
    from .terminal import quiet

    with quiet():
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = {
        "xnnpack": OpResolverType.AUTO,
        "none": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "reference": OpResolverType.BUILTIN_REF,
    }[delegate]
    if not path.is_file():
        raise RuntimeFailure(f"no file {path}", "export the model again")
    try:
        with quiet():
            interpreter = Interpreter(
                str(path), num_threads=threads or None, experimental_op_resolver_type=resolver
            )
            interpreter.allocate_tensors()
    except Exception as error:
        raise _translate(error, path) from error
    return interpreter


def _translate(error: Exception, path: Path) -> RuntimeFailure:
    said = first_line(error)
    if "custom op" in str(error).lower() or "Select TensorFlow" in str(error):
        from . import flatbuffer

        lacks = ", ".join(flatbuffer.foreign(flatbuffer.read(path)))
        return RuntimeFailure(
            f"LiteRT lacks operators of {path.name}: {lacks}",
            "it has neither custom operators nor TensorFlow's own (Select TF): convert the model without them",
        )
    return RuntimeFailure(f"LiteRT can't load {path.name}: {said}", "the file is damaged, or newer than LiteRT")


# --------------------------------------------------------------------------------------- running


class Direct:
    """The first signature, by tensor indices: nothing is looked up, and nothing resized, without need."""

    def __init__(self, interpreter: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self._interpreter = interpreter
        taken, given = details(interpreter)
        self.inputs = _slots(taken, inputs)
        self.outputs = _slots(given, outputs)
        self._shapes = {name: slot.shape for name, slot in self.inputs.items()}

    def __call__(self, arrays: Arrays) -> Arrays:
        interpreter = self._interpreter
        if any(self._shapes[name] != array.shape for name, array in arrays.items()):
            self._resize(arrays)
        for name, array in arrays.items():
            interpreter.set_tensor(self.inputs[name].tensor, array)
        interpreter.invoke()
        return {name: interpreter.get_tensor(slot.tensor) for name, slot in self.outputs.items()}

    def _resize(self, arrays: Arrays) -> None:
        for name, array in arrays.items():
            if self._shapes[name] != array.shape:
                self._shapes[name] = ()  # unknown, until all of it has worked
                self._interpreter.resize_tensor_input(self.inputs[name].tensor, array.shape)
        self._interpreter.allocate_tensors()
        self._shapes = {name: array.shape for name, array in arrays.items()}


class Runner:
    """One signature of several."""

    def __init__(self, interpreter: Any, key: str) -> None:
        self._run = interpreter.get_signature_runner(key)
        self.inputs = _slots(self._run.get_input_details(), None)
        self.outputs = _slots(self._run.get_output_details(), None)

    def __call__(self, arrays: Arrays) -> Arrays:
        found: Arrays = self._run(**arrays)
        return found


def details(interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Name → tensor details of inputs and outputs: by the signature's names, else the tensors' own."""
    if keys := list(interpreter.get_signature_list()):
        runner = interpreter.get_signature_runner(keys[0])
        return runner.get_input_details(), runner.get_output_details()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return {detail["name"]: detail for detail in inputs}, {detail["name"]: detail for detail in outputs}


def _slots(details: Mapping[str, Any], names: Sequence[str] | None) -> dict[str, Slot]:
    found = {}
    for name in details if names is None else names:
        if name not in details:
            raise RuntimeFailure(
                f"the file has no tensor {name!r}", f"it has {', '.join(details)}; export it again"
            )
        detail = details[name]
        scale, zero = detail["quantization"]
        shape = tuple(int(size) for size in detail["shape"])
        found[name] = Slot(detail["index"], detail["dtype"], shape, float(scale), int(zero))
    return found


def _chooser(
    inputs: Sequence[TensorSpec], dims: Sequence[str], runners: Mapping[tuple[int, ...], Runner]
) -> Invoke:
    """Picks the signature by the sizes of the inputs' listed dims."""
    places = _places(inputs, dims)

    def invoke(arrays: Arrays) -> Arrays:
        sizes = tuple(arrays[name].shape[axis] for name, axis in places)
        return runners[sizes](arrays)

    return invoke


def _places(inputs: Sequence[TensorSpec], dims: Sequence[str]) -> list[tuple[str, int]]:
    """Where to read the size of each dim: an input, and its axis."""
    return [
        next((s.name, axis) for s in inputs for axis, d in enumerate(s.shape) if getattr(d, "name", "") == name)
        for name in dims
    ]


def writer(artifact: Artifact) -> Callable[[Mapping[str, Array]], tuple[str, Arrays]]:
    """A function from a session's inputs to the signature they go to, and what the file is given for them."""
    interpreter = load(artifact.entry_path, delegate="none")
    taken = _slots(details(interpreter)[0], [spec.name for spec in artifact.inputs])
    write = _writer(artifact.inputs, taken, artifact.details.get("nhwc", ()))
    listed: Mapping[str, Mapping[str, int]] = artifact.details.get("signatures", {})
    keys = {tuple(sizes.values()): key for key, sizes in listed.items()}
    places = _places(artifact.inputs, list(next(iter(listed.values()), ())))
    default = next(iter(interpreter.get_signature_list()), "serving_default")

    def written(arrays: Mapping[str, Array]) -> tuple[str, Arrays]:
        sizes = tuple(arrays[name].shape[axis] for name, axis in places)
        return keys.get(sizes, default), write(arrays)

    return written


def _writer(
    inputs: Sequence[TensorSpec], taken: Mapping[str, Slot], nhwc: Sequence[str]
) -> Callable[[Mapping[str, Array]], Arrays]:
    import numpy as np

    def write(arrays: Mapping[str, Array]) -> Arrays:
        written = {}
        for spec in inputs:
            array = arrays[spec.name]
            if spec.name in nhwc:
                array = array.transpose(0, 2, 3, 1)
            written[spec.name] = np.ascontiguousarray(_given(spec, array, taken[spec.name]))
        return written

    return write


def _caller(
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    taken: Mapping[str, Slot],
    given: Mapping[str, Slot],
    invoke: Invoke,
    nhwc: Sequence[str],
) -> Callable[[Mapping[str, Array]], Arrays]:
    """The call of a Session: the declared dtypes and layout outside, the file's inside."""
    write = _writer(inputs, taken, nhwc)

    def call(arrays: Mapping[str, Array]) -> Arrays:
        written = write(arrays)
        try:
            found = invoke(written)
        except (ValueError, RuntimeError, TypeError) as error:
            raise RuntimeFailure(
                f"LiteRT failed: {first_line(error)}", "verify the artifact: a runtime that fails is no good copy"
            ) from error
        return {spec.name: _answer(spec, found[spec.name], given[spec.name]) for spec in outputs}

    return call


def _given(spec: TensorSpec, array: Array, slot: Slot) -> Array:
    import numpy as np

    if array.dtype == slot.dtype:
        return array
    if slot.scale and "float" in spec.dtype:
        bounds = np.iinfo(slot.dtype)
        whole: Array = np.rint(array.astype(np.float32) / slot.scale) + slot.zero
        return np.clip(whole, bounds.min, bounds.max).astype(slot.dtype)
    if np.issubdtype(slot.dtype, np.integer) and array.size:
        bounds = np.iinfo(slot.dtype)
        if array.min() < bounds.min or array.max() > bounds.max:
            raise InputError(
                f"input {spec.name!r} holds values beyond {bounds.bits} bits",
                f"the file's integers have {bounds.bits} bits",
            )
    return array.astype(slot.dtype)


def _answer(spec: TensorSpec, array: Array, slot: Slot) -> Array:
    import numpy as np

    if array.dtype.name == spec.dtype:
        return array
    if slot.scale and "float" in spec.dtype:
        array = (array.astype(np.float32) - slot.zero) * np.float32(slot.scale)
    return array.astype(_native(spec.dtype), copy=False)


def _native(dtype: str) -> Any:
    import numpy as np

    if dtype == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(dtype)
