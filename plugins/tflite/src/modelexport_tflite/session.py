"""model.tflite → Session: the model's own interface, whatever the file's is.

LiteRT has no 64-bit integers in most operators, so files hold 32-bit ones; quantized files may take and give
integers; files with channels last take images transposed. A session converts all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from modelexport.contract import Artifact, Dim, Session, TensorSpec, cast
from modelexport.errors import ArtifactError, InputError, RuntimeFailure, first_line

from . import files, interpreter
from .interpreter import FirstSignature, OneSignature, Slot

if TYPE_CHECKING:
    from modelexport.contract import Array, Arrays

    from . import RunOptions

#: runs one signature on arrays in the file's own dtypes
Invoke = Callable[["Arrays"], "Arrays"]


def open_artifact(artifact: Artifact, options: RunOptions) -> Session:
    """A Session on the artifact. Raises RuntimeFailure for a damaged file, or operators that LiteRT lacks."""
    loaded = interpreter.load(artifact.entry_path, options.threads, options.delegate)
    sizes_by_key = _signatures(artifact)
    first: FirstSignature | OneSignature
    if sizes_by_key:
        runners = {tuple(sizes.values()): OneSignature(loaded, key) for key, sizes in sizes_by_key.items()}
        first = next(iter(runners.values()))
        invoke: Invoke = _chooser(_places(artifact), runners)
    else:
        names = [spec.name for spec in artifact.inputs], [spec.name for spec in artifact.outputs]
        invoke = first = FirstSignature(loaded, *names)
    call = _call(artifact, first, invoke)
    how = {"delegate": options.delegate, "threads": options.threads or "LiteRT's choice"}
    return Session(call, artifact.inputs, artifact.outputs, details=how)


def file_inputs(artifact: Artifact) -> Callable[[Mapping[str, Array]], tuple[str, Arrays]]:
    """A function from a session's inputs to the signature that takes them, and what it is given for them."""
    loaded = interpreter.load(artifact.entry_path, delegate="none")
    slots = interpreter.slots(interpreter.tensors(loaded)[0], [spec.name for spec in artifact.inputs])
    convert = _inward(artifact, slots)
    keys = {tuple(sizes.values()): key for key, sizes in _signatures(artifact).items()}
    places = _places(artifact)
    default = next(iter(loaded.get_signature_list()), files.DEFAULT_SIGNATURE)

    def converted(arrays: Mapping[str, Array]) -> tuple[str, Arrays]:
        return keys.get(_sizes(places, arrays), default), convert(arrays)

    return converted


# --------------------------------------------------------------------------------------- signatures


def _signatures(artifact: Artifact) -> Mapping[str, Mapping[str, int]]:
    """Signature → the sizes of the dims that it is for; empty for a file that is run by its only signature."""
    signatures: Mapping[str, Mapping[str, int]] = artifact.details.get("signatures", {})
    return signatures


def _chooser(places: Sequence[tuple[str, int]], runners: Mapping[tuple[int, ...], OneSignature]) -> Invoke:
    """Runs the signature for the sizes that the inputs have; it raises InputError for sizes that none is for."""

    def invoke(arrays: Arrays) -> Arrays:
        sizes = _sizes(places, arrays)
        if sizes not in runners:
            raise InputError(
                f"the file has no signature for sizes {', '.join(map(str, sizes))}", "export it with others"
            )
        return runners[sizes](arrays)

    return invoke


def _places(artifact: Artifact) -> list[tuple[str, int]]:
    """Where to read the size of each dim that signatures are listed for: an input, and its axis."""
    return [_place(artifact.inputs, dim) for dim in next(iter(_signatures(artifact).values()), ())]


def _place(inputs: Sequence[TensorSpec], dim: str) -> tuple[str, int]:
    """Raises ArtifactError for a dim that no input has."""
    for spec in inputs:
        for axis, size in enumerate(spec.shape):
            if isinstance(size, Dim) and size.name == dim:
                return spec.name, axis
    raise ArtifactError(
        f"signatures are listed for sizes of {dim!r}, which no input has", "export the model again"
    )


def _sizes(places: Sequence[tuple[str, int]], arrays: Mapping[str, Array]) -> tuple[int, ...]:
    return tuple(arrays[name].shape[axis] for name, axis in places)


# --------------------------------------------------------------------------------------- conversion


def _call(
    artifact: Artifact, file: FirstSignature | OneSignature, invoke: Invoke
) -> Callable[[Mapping[str, Array]], Arrays]:
    """The call of a Session: the declared dtypes and layout outside, those of `file` inside."""
    convert = _inward(artifact, file.inputs)

    def call(arrays: Mapping[str, Array]) -> Arrays:
        converted = convert(arrays)
        try:
            outputs = invoke(converted)
        except (ValueError, RuntimeError, TypeError) as error:
            raise RuntimeFailure(
                f"LiteRT failed: {first_line(error)}", "verify the artifact: a runtime that fails is no good copy"
            ) from error
        return {
            spec.name: _from_file(spec, outputs[spec.name], file.outputs[spec.name]) for spec in artifact.outputs
        }

    return call


def _inward(artifact: Artifact, slots: Mapping[str, Slot]) -> Callable[[Mapping[str, Array]], Arrays]:
    """A function from a session's inputs to the file's: dtypes, layout, and integers for quantized inputs."""
    import numpy as np

    nhwc = artifact.details.get("nhwc", ())
    ranks = {spec.name: len(spec.shape) for spec in artifact.inputs}
    if strangers := [name for name in nhwc if ranks.get(name) != 4]:
        raise ArtifactError(
            f"{strangers[0]!r} is no image, and can't have channels last", "export the model again"
        )

    def convert(arrays: Mapping[str, Array]) -> Arrays:
        converted = {}
        for spec in artifact.inputs:
            array = arrays[spec.name]
            if spec.name in nhwc:
                array = array.transpose(0, 2, 3, 1)
            converted[spec.name] = np.ascontiguousarray(_to_file(spec, array, slots[spec.name]))
        return converted

    return convert


def _to_file(spec: TensorSpec, array: Array, slot: Slot) -> Array:
    """`array` in the file's dtype. Raises InputError for integers that don't fit into it."""
    import numpy as np

    if array.dtype == slot.dtype:
        return array
    if slot.scale and "float" in spec.dtype:
        bounds = np.iinfo(slot.dtype)
        steps: Array = np.rint(array.astype(np.float32) / slot.scale) + slot.zero
        return np.clip(steps, bounds.min, bounds.max).astype(slot.dtype)
    if np.issubdtype(slot.dtype, np.integer) and array.size:
        bounds = np.iinfo(slot.dtype)
        if array.min() < bounds.min or array.max() > bounds.max:
            raise InputError(
                f"input {spec.name!r} holds values beyond {bounds.bits} bits",
                f"the file's integers have {bounds.bits} bits",
            )
    return array.astype(slot.dtype)


def _from_file(spec: TensorSpec, array: Array, slot: Slot) -> Array:
    """`array`, as the file gives it, in the declared dtype."""
    import numpy as np

    if array.dtype.name != spec.dtype and slot.scale and "float" in spec.dtype:
        array = (array.astype(np.float32) - slot.zero) * np.float32(slot.scale)
    return array if array.dtype.name == spec.dtype else cast(array, spec.dtype)
