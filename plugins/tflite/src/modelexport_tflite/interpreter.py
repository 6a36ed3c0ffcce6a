"""LiteRT's interpreter on a file: loading it, its tensors, and running one signature or the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from modelexport.errors import RuntimeFailure, first_line

from . import files
from .backend import quiet

if TYPE_CHECKING:
    from modelexport.contract import Arrays


class Slot(NamedTuple):
    """One input or output of the file: its tensor, dtype, sizes, and the scale and zero point of its integers."""

    tensor: int
    dtype: Any
    shape: tuple[int, ...]
    scale: float
    zero: int


def load(path: Path, threads: int = 0, delegate: str = "xnnpack") -> Any:
    """An interpreter on the file, its tensors allocated.

    Raises RuntimeFailure for a missing or damaged file, or operators that LiteRT lacks.
    """
    if not path.is_file():
        raise RuntimeFailure(f"no file {path}", "export the model again")
    with quiet():
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        resolver = {
            "xnnpack": OpResolverType.AUTO,
            "none": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "reference": OpResolverType.BUILTIN_REF,
        }[delegate]
        try:
            loaded = Interpreter(str(path), num_threads=threads or None, experimental_op_resolver_type=resolver)
            loaded.allocate_tensors()
        except Exception as error:
            raise _refused(path, error) from error
    return loaded


def _refused(path: Path, error: Exception) -> RuntimeFailure:
    if "custom op" in str(error).lower() or "Select TensorFlow" in str(error):
        lacks = ", ".join(files.not_built_in(files.read(path)))
        return RuntimeFailure(
            f"LiteRT lacks operators of {path.name}: {lacks}",
            "it has neither custom operators nor TensorFlow's own (Select TF): convert the model without them",
        )
    return RuntimeFailure(
        f"LiteRT can't load {path.name}: {first_line(error)}", "the file is damaged, or newer than LiteRT"
    )


# --------------------------------------------------------------------------------------- tensors


def tensors(loaded: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Name → details of the tensors of inputs and outputs: by the first signature's names, else their own."""
    if keys := list(loaded.get_signature_list()):
        runner = loaded.get_signature_runner(keys[0])
        return runner.get_input_details(), runner.get_output_details()
    inputs, outputs = loaded.get_input_details(), loaded.get_output_details()
    return {detail["name"]: detail for detail in inputs}, {detail["name"]: detail for detail in outputs}


def slots(details: Mapping[str, Any], names: Sequence[str]) -> dict[str, Slot]:
    """The tensors called `names`. Raises RuntimeFailure where the file lacks one."""
    for name in names:
        if name not in details:
            raise RuntimeFailure(
                f"the file has no tensor {name!r}", f"it has {', '.join(details)}; export it again"
            )
    return {name: _slot(details[name]) for name in names}


def _slot(detail: Mapping[str, Any]) -> Slot:
    scale, zero = detail["quantization"]
    shape = tuple(int(size) for size in detail["shape"])
    return Slot(detail["index"], detail["dtype"], shape, float(scale), int(zero))


# --------------------------------------------------------------------------------------- running


class FirstSignature:
    """Runs the first signature by the indices of its tensors: nothing is looked up, or resized, without need.

    It is called with arrays in the file's own dtypes, by name, and gives such arrays.
    """

    def __init__(self, loaded: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self._interpreter = loaded
        input_details, output_details = tensors(loaded)
        self.inputs = slots(input_details, inputs)
        self.outputs = slots(output_details, outputs)
        self._shapes = {name: slot.shape for name, slot in self.inputs.items()}

    def __call__(self, arrays: Arrays) -> Arrays:
        loaded = self._interpreter
        if any(self._shapes[name] != array.shape for name, array in arrays.items()):
            self._resize(arrays)
        for name, array in arrays.items():
            loaded.set_tensor(self.inputs[name].tensor, array)
        loaded.invoke()
        return {name: loaded.get_tensor(slot.tensor) for name, slot in self.outputs.items()}

    def _resize(self, arrays: Arrays) -> None:
        for name, array in arrays.items():
            if self._shapes[name] != array.shape:
                self._shapes[name] = ()  # unknown, until all of it has worked
                self._interpreter.resize_tensor_input(self.inputs[name].tensor, array.shape)
        self._interpreter.allocate_tensors()
        self._shapes = {name: array.shape for name, array in arrays.items()}


class OneSignature:
    """Runs the signature `key` of a file with several, on arrays in the file's own dtypes, by name."""

    def __init__(self, loaded: Any, key: str) -> None:
        self._run = loaded.get_signature_runner(key)
        inputs, outputs = self._run.get_input_details(), self._run.get_output_details()
        self.inputs, self.outputs = slots(inputs, list(inputs)), slots(outputs, list(outputs))

    def __call__(self, arrays: Arrays) -> Arrays:
        outputs: Arrays = self._run(**arrays)
        return outputs
