"""model.pte → Session, on ExecuTorch's runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Session
from modelexport.errors import CannotRunHere, RuntimeFailure, first_line
from modelexport.toolkit import bounded, to_numpy, to_torch

from . import backend, files, pool

if TYPE_CHECKING:
    from modelexport.contract import Array, Arrays

    from . import RunOptions


def open_artifact(artifact: Artifact, options: RunOptions) -> Session:
    """A Session on the artifact, whose dims are bounded where its memory plan is.

    Raises CannotRunHere for a delegate or a kernel that this build of the runtime lacks, RuntimeFailure where it
    refuses the file, OptionError for other threads than those of the programs that are open in this process.
    """
    native = backend.runtime()
    _check_machine(artifact, native)
    pool.resize(options.threads)
    method = files.load(artifact.entry_path)
    inputs = tuple(bounded(spec, artifact.details.get("bounds", {})) for spec in artifact.inputs)
    call = caller(method, [spec.name for spec in inputs], [spec.name for spec in artifact.outputs])
    details = {
        "threads": pool.size(),
        "delegates": artifact.details.get("delegates", {}),
    }
    return Session(call, inputs, artifact.outputs, details=details)


def _check_machine(artifact: Artifact, native: Any) -> None:
    """Raise CannotRunHere for the first delegate or kernel of the program that the runtime lacks."""
    if absent := [name for name in artifact.details.get("delegates", ()) if not native._is_available(name)]:
        raise CannotRunHere(
            f"this runtime has no {absent[0]}, which the program was lowered to", "run it on a device that has one"
        )
    wanted = artifact.details.get("kernels", ())
    if missing := sorted(set(wanted) - backend.kernels(wanted)):
        raise CannotRunHere(f"this runtime has no kernel {missing[0]}", "run it in the one that brings it")


def caller(method: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Callable[[Mapping[str, Array]], Arrays]:
    """The call of a Session: arrays go in by position, and come out as copies of the runtime's memory."""
    import numpy as np
    import torch

    from_numpy, order, names = torch.from_numpy, list(inputs), list(outputs)

    def tensor(array: Array) -> Any:
        if array.dtype.name == "bfloat16":
            return to_torch(array)
        if not (array.flags.writeable and array.flags.c_contiguous):
            array = np.array(array, order="C")
        return from_numpy(array)

    def numpy(value: Any) -> Array:
        array: Array = value.numpy() if value.dtype != torch.bfloat16 else to_numpy(value, "an output")
        return array

    def call(arrays: Mapping[str, Array]) -> Arrays:
        try:
            values = method([tensor(arrays[name]) for name in order], True)
            return {name: numpy(value) for name, value in zip(names, values, strict=True)}
        except Exception as error:
            raise RuntimeFailure(
                f"ExecuTorch failed: {first_line(error)}",
                "what its runtime printed says more; check the inputs' sizes and values",
            ) from error

    return call
