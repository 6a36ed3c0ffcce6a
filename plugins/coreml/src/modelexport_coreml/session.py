"""model.mlpackage → Session: Core ML's own predictor on macOS, the interpreter of the saved program elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.errors import InputError, MxError, RuntimeFailure
from modelexport.plugins import first_line
from modelexport.types import Artifact, Session, TensorSpec

from . import package
from .features import LABEL

if TYPE_CHECKING:
    from modelexport.types import Array, Arrays

    from . import RunOptions

#: computes outputs of a program by name, from inputs in the program's own types
Evaluate = Callable[["Arrays"], Mapping[str, Any]]


def open_artifact(artifact: Artifact, options: RunOptions) -> Session:
    """A Session on the artifact; its details say whether Core ML or the interpreter computes.

    Raises CannotRunHere where the program has an operator that the interpreter lacks, and this is no Mac.
    An image input is interpreted on a Mac as well: pixels are whole numbers, and the model's own inputs aren't.
    """
    path = artifact.entry_path
    image = artifact.details.get("image")
    units = options.compute_units
    if units == "artifact":
        units = artifact.details.get("compute_units", "all")
    if sys.platform == "darwin" and image is None:
        evaluate, features = _predictor(path, units)
        details = {"computed_by": "Core ML", "compute_units": units}
    else:
        evaluate, features = _interpreter(path, options.threads)
        details = {"computed_by": "interpreter of the saved program, not Core ML"}
    call = caller(evaluate, features, artifact)
    return Session(call, artifact.inputs, artifact.outputs, details=details)


def _interpreter(path: Path, threads: int) -> tuple[Evaluate, dict[str, Any]]:
    from .interpreter import Interpreter

    if threads:
        import torch

        torch.set_num_threads(threads)
    spec = package.load_spec(path)
    interpreter = Interpreter.of(package.load_program(path, spec))
    return interpreter, {feature.name: feature for feature in spec.description.input}


def _predictor(path: Path, units: str) -> tuple[Evaluate, dict[str, Any]]:
    with package.quiet():
        import coremltools as ct

        try:
            model = ct.models.MLModel(str(path), compute_units=package.units(units))
        except Exception as error:
            raise RuntimeFailure(
                f"Core ML can't load {path.name}: {first_line(error)}", "this macOS may be older than its target"
            ) from error
    described = model.get_spec().description
    state = model.make_state() if described.state else None

    def evaluate(inputs: Arrays) -> Mapping[str, Any]:
        found: Mapping[str, Any] = model.predict(inputs, state) if state is not None else model.predict(inputs)
        return found

    return evaluate, {feature.name: feature for feature in described.input}


def caller(
    evaluate: Evaluate, features: Mapping[str, Any], artifact: Artifact
) -> Callable[[Mapping[str, Array]], Arrays]:
    """The call of a Session: the declared names and dtypes outside, the program's inside."""
    image, classifier = artifact.details.get("image"), artifact.details.get("classifier")
    written = artifact.details.get("names", {})
    given_as = [(spec.name, written.get(spec.name, spec.name)) for spec in artifact.inputs]
    outputs = [(spec, written.get(spec.name, spec.name), _native(spec.dtype)) for spec in artifact.outputs]

    def call(arrays: Mapping[str, Array]) -> Arrays:
        given = {inner: _given(name, arrays[name], features[inner]) for name, inner in given_as}
        if image is not None:
            inner = written.get(image["input"], image["input"])
            given[inner] = _pixels(given[inner], image)
        try:
            found = evaluate(given)
        except MxError:
            raise
        except Exception as error:
            raise RuntimeFailure(
                f"the program failed: {type(error).__name__}: {first_line(error)}", "check the inputs' sizes"
            ) from error
        if classifier is not None:
            found = {outputs[0][1]: _probabilities(found)}
        return {spec.name: _answer(found[inner], spec, dtype) for spec, inner, dtype in outputs}

    return call


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


def _given(name: str, array: Array, feature: Any) -> Array:
    """An input in the program's type. Raises InputError where 32 bits or the program's sizes don't hold it."""
    import numpy as np

    kind = package.array_type(feature)
    if not package.takes(feature, array.shape):
        raise InputError(
            f"input {name!r} of shape {list(array.shape)} is outside the sizes that the program was made for",
            "export it with other dims, or a larger -k bound=",
        )
    if kind == "image" or array.dtype.name == kind:
        return array
    if kind == "int32" and array.size and (array.max() > 2**31 - 1 or array.min() < -(2**31)):
        raise InputError(f"input {name!r} holds values beyond 32 bits", "Core ML's integers have 32 bits")
    found: Array = array.astype(np.dtype(kind))
    return found


def _pixels(array: Array, image: Mapping[str, Any]) -> Array:
    """The image, before scale and bias, that the model would get this input from."""
    import numpy as np

    bias = np.asarray(image["bias"], np.float64).reshape(1, -1, 1, 1)
    pixels: Array = ((array.astype(np.float64) - bias) / image["scale"]).astype(np.float32)
    return pixels


def _probabilities(found: Mapping[str, Any]) -> Array:
    """A classifier's probabilities as an array; Core ML hands them out as a dictionary."""
    import numpy as np

    table = next(value for name, value in found.items() if name != LABEL)
    values = list(table.values()) if isinstance(table, Mapping) else table
    return np.asarray(values)
