"""model.mlpackage → Session: Core ML's own predictor on macOS, the interpreter of the saved program elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Session, TensorSpec
from modelexport.errors import InputError, MxError, RuntimeFailure, first_line

from . import files
from .backend import compute_unit, coremltools, quiet

if TYPE_CHECKING:
    from modelexport.contract import Array, Arrays

    from . import RunOptions

#: computes outputs of a program by name, from inputs in the program's own types
Evaluate = Callable[["Arrays"], Mapping[str, Any]]


def open_artifact(artifact: Artifact, options: RunOptions) -> Session:
    """A Session on the artifact; its details say whether Core ML or the interpreter computes.

    Raises CannotRunHere where the program has an operator that the interpreter lacks, and this is no Mac.
    An image input is interpreted on a Mac as well: pixels are whole numbers, and the model's own inputs aren't.
    """
    units = options.compute_units
    if units == "artifact":
        units = artifact.details.get("compute_units", "all")
    evaluate, features, details = open_package(artifact.entry_path, artifact.details, units, options.threads)
    return Session(caller(evaluate, features, artifact), artifact.inputs, artifact.outputs, details=details)


def open_package(
    path: Path, details: Mapping[str, Any], units: str = "all", threads: int = 0
) -> tuple[Evaluate, dict[str, Any], dict[str, str]]:
    """What computes a package's outputs, its input features by name, and who it is that computes."""
    if sys.platform == "darwin" and "image" not in details:
        evaluate, features = _predictor(path, units)
        return evaluate, features, {"computed_by": "Core ML", "compute_units": units}
    evaluate, features = _interpreter(path, threads)
    return evaluate, features, {"computed_by": "interpreter of the saved program, not Core ML"}


def _interpreter(path: Path, threads: int) -> tuple[Evaluate, dict[str, Any]]:
    from .interpreter import Interpreter

    if threads:
        import torch

        torch.set_num_threads(threads)
    spec = files.load_spec(path)
    interpreter = Interpreter.of(files.load_program(path, spec))
    return interpreter, {feature.name: feature for feature in spec.description.input}


def _predictor(path: Path, units: str) -> tuple[Evaluate, dict[str, Any]]:
    with quiet():
        try:
            model = coremltools().models.MLModel(str(path), compute_units=compute_unit(units))
        except Exception as error:
            raise RuntimeFailure(
                f"Core ML can't load {path.name}: {first_line(error)}", "this macOS may be older than its target"
            ) from error
    spec = model.get_spec()
    state = model.make_state() if spec.description.state else None
    classifier = bool(spec.description.predictedFeatureName)
    labels = files.class_labels(files.load_program(path, spec)) if classifier else []

    def evaluate(inputs: Arrays) -> Mapping[str, Any]:
        outputs = model.predict(inputs, state) if state is not None else model.predict(inputs)
        return {name: _in_order(value, labels) for name, value in outputs.items()}

    return evaluate, {feature.name: feature for feature in spec.description.input}


def _in_order(value: Any, labels: Sequence[Any]) -> Any:
    """Core ML hands out a classifier's probabilities as a dictionary, in any order."""
    return [value[label] for label in labels] if isinstance(value, Mapping) else value


def caller(
    evaluate: Evaluate, features: Mapping[str, Any], artifact: Artifact
) -> Callable[[Mapping[str, Array]], Arrays]:
    """The call of a Session: the declared names and dtypes outside, the program's inside."""
    written = artifact.details.get("names", {})
    compute = computer(evaluate, features, artifact.inputs, artifact.details)
    specs = [(spec, written.get(spec.name, spec.name), _native(spec.dtype)) for spec in artifact.outputs]

    def call(arrays: Mapping[str, Array]) -> Arrays:
        outputs = compute(arrays)
        return {spec.name: _answer(outputs[inner], spec, dtype) for spec, inner, dtype in specs}

    return call


def computer(
    evaluate: Evaluate, features: Mapping[str, Any], inputs: Sequence[TensorSpec], details: Mapping[str, Any]
) -> Callable[[Mapping[str, Array]], Mapping[str, Any]]:
    """Outputs, under the program's names, of arrays under the declared ones; a classifier's is one array.

    Raises InputError where the program has no input of a declared name. The function raises it for arrays that the
    program does not take, and RuntimeFailure where it fails.
    """
    image, classifier, written = details.get("image"), details.get("classifier"), details.get("names", {})
    names = [(spec.name, written.get(spec.name, spec.name)) for spec in inputs]
    if strangers := [name for name, inner in names if inner not in features]:
        raise InputError(f"the program has no input {strangers[0]!r}", f"it has {', '.join(features)}")

    def compute(arrays: Mapping[str, Array]) -> Mapping[str, Any]:
        native = {inner: _in_type(name, arrays[name], features[inner]) for name, inner in names}
        if image is not None:
            inner = written.get(image["input"], image["input"])
            native[inner] = _pixels(native[inner], image)
        try:
            outputs = evaluate(native)
        except MxError:
            raise
        except Exception as error:
            raise RuntimeFailure(
                f"the program failed: {type(error).__name__}: {first_line(error)}", "check the inputs' sizes"
            ) from error
        if classifier is not None:
            label = classifier.get("label", files.LABEL)
            probabilities = next(value for name, value in outputs.items() if name != label)
            outputs = {written.get(classifier["output"], classifier["output"]): probabilities}
        return outputs

    return compute


def _answer(value: Any, spec: TensorSpec, dtype: Any) -> Array:
    """An output in its declared dtype; where its sizes are known, in them: Core ML has no arrays without dims."""
    import numpy as np

    array = np.asarray(value).astype(dtype, copy=False)
    fixed = all(isinstance(size, int) for size in spec.shape)
    return array.reshape(spec.shape) if not spec.shape or (fixed and array.ndim != len(spec.shape)) else array


def _native(dtype: str) -> Any:
    import numpy as np

    if dtype == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(dtype)


def _in_type(name: str, array: Array, feature: Any) -> Array:
    """An input in the program's type. Raises InputError where 32 bits or the program's sizes don't hold it."""
    import numpy as np

    kind = files.array_type(feature)
    if not files.takes(feature, array.shape):
        raise InputError(
            f"input {name!r} of shape {list(array.shape)} is outside the sizes that the program was made for",
            "export it with other dims, or a larger -k bound=",
        )
    if kind == "image" or array.dtype.name == kind:
        return array
    if kind == "int32" and array.size and (array.max() > 2**31 - 1 or array.min() < -(2**31)):
        raise InputError(f"input {name!r} holds values beyond 32 bits", "Core ML's integers have 32 bits")
    return array.astype(np.dtype(kind))


def _pixels(array: Array, image: Mapping[str, Any]) -> Array:
    """The image, before scale and bias, that the model would get this input from."""
    import numpy as np

    bias = np.asarray(image["bias"], np.float64).reshape(1, -1, 1, 1)
    pixels: Array = ((array.astype(np.float64) - bias) / image["scale"]).astype(np.float32)
    return pixels
