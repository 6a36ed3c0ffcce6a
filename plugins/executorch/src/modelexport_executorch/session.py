"""model.pte → Session, on ExecuTorch's runtime.

`executorch.runtime` imports ExecuTorch's compiler, which takes ten seconds; the module that it wraps takes none.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Session
from modelexport.errors import CannotRunHere, RuntimeFailure, first_line, is_disk_error

from . import lowering

if TYPE_CHECKING:
    from modelexport.contract import Array, Arrays

    from . import RunOptions

#: kernels that are in a library of their own
_QUANTIZED = "quantized_decomposed::"


def open_artifact(artifact: Artifact, options: RunOptions) -> Session:
    """A Session on the artifact, whose dims are bounded where its memory plan is.

    Raises CannotRunHere for a delegate or a kernel that this build of the runtime lacks, RuntimeFailure where it
    refuses the file.
    """
    native = runtime()
    if absent := [name for name in artifact.details.get("delegates", ()) if not native._is_available(name)]:
        raise CannotRunHere(
            f"this runtime has no {absent[0]}, which the program was lowered to", "run it on a device that has one"
        )
    wanted = artifact.details.get("kernels", ())
    if missing := sorted(set(wanted) - kernels(wanted)):
        raise CannotRunHere(f"this runtime has no kernel {missing[0]}", "run it in the one that brings it")
    method = load(artifact.entry_path)
    if options.threads and native._threadpool_get_thread_count() != options.threads:
        with said():
            native._unsafe_reset_threadpool(options.threads)
    bounds = artifact.details.get("bounds", {})
    inputs = tuple(lowering.limited(spec, bounds) for spec in artifact.inputs)
    call = caller(method, [spec.name for spec in inputs], [spec.name for spec in artifact.outputs])
    details = {
        "threads": native._threadpool_get_thread_count(),
        "delegates": artifact.details.get("delegates", {}),
    }
    return Session(call, inputs, artifact.outputs, details=details)


def runtime() -> Any:
    """ExecuTorch's runtime as a Python module. It needs PyTorch's libraries loaded."""
    import torch  # noqa: F401
    from executorch.extension.pybindings import _C

    return _C


def kernels(wanted: Iterable[str]) -> set[str]:
    """Names of the kernels that the runtime has; those of quantized operators are loaded if any is wanted."""
    native = runtime()
    if any(name.startswith(_QUANTIZED) for name in wanted):
        import executorch.kernels.quantized  # noqa: F401
    return set(native._get_operator_names())


def load(path: Path) -> Any:
    """The method `forward` of a program file. Raises RuntimeFailure with what the runtime said."""
    native = runtime()
    with said() as words:
        try:
            program = native._load_program(str(path), program_verification=native.Verification.InternalConsistency)
            return program.load_method("forward")
        except Exception as error:
            if is_disk_error(error):
                raise
            problem = error
    raise RuntimeFailure(
        f"ExecuTorch can't load {path.name}: {_last(words) or first_line(problem)}",
        "export it again: the file is damaged, or of another version of ExecuTorch",
    ) from problem


@contextmanager
def said() -> Iterator[list[str]]:
    """What the runtime prints to Python's standard error meanwhile, as lines, off the user's terminal."""
    lines: list[str] = []
    stream = io.StringIO()
    try:
        with redirect_stderr(stream):
            yield lines
    finally:
        lines += stream.getvalue().splitlines()


def _last(lines: Sequence[str]) -> str:
    """The first thing that the runtime said went wrong: later lines say where that led."""
    words = [line.partition("] ")[2] or line for line in lines if "cpuinfo" not in line]
    return words[0] if words else ""


def caller(method: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Callable[[Mapping[str, Array]], Arrays]:
    """The call of a Session: arrays go in by position, and come out as copies of the runtime's memory."""
    import numpy as np
    import torch
    from modelexport.toolkit import to_numpy, to_torch

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
            found = method([tensor(arrays[name]) for name in order], True)
            return {name: numpy(value) for name, value in zip(names, found, strict=True)}
        except Exception as error:
            raise RuntimeFailure(
                f"ExecuTorch failed: {first_line(error)}",
                "what its runtime printed says more; check the inputs' sizes and values",
            ) from error

    return call
