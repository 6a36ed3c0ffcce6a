"""model.onnx → Session, on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.errors import CannotRunHere, OptionError, RuntimeFailure
from modelexport.plugins import first_line
from modelexport.types import Artifact, Session

if TYPE_CHECKING:
    from . import RunOptions

_LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}


def open_artifact(artifact: Artifact, options: RunOptions) -> Session:
    """A Session on the artifact. Raises RuntimeFailure when ONNX Runtime refuses the file."""
    runtime = open_file(artifact.entry_path, options)
    details = {"providers": runtime.get_providers(), "threads": options.threads}
    return Session(
        caller(runtime, [spec.name for spec in artifact.outputs]),
        artifact.inputs,
        artifact.outputs,
        details=details,
    )


def caller(runtime: Any, outputs: Sequence[str]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """The call of a Session: nothing but the runtime's own call, and a dict of what it returns."""
    names, run = list(outputs), runtime.run

    def call(inputs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return dict(zip(names, run(names, inputs), strict=True))
        except Exception as error:
            raise RuntimeFailure(
                f"ONNX Runtime failed: {first_line(error)}",
                "check the inputs' sizes; --debug shows the trace",
            ) from error

    return call


def open_file(path: Path, options: RunOptions) -> Any:
    """An `InferenceSession` on a file, with the providers, threads and optimization asked for."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _LEVELS[options.optimization])
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 3
    if options.custom_ops:
        settings.register_custom_ops_library(options.custom_ops)
    providers = _providers(options.providers, onnxruntime.get_available_providers())
    try:
        runtime = onnxruntime.InferenceSession(str(path), settings, providers=providers)
    except Exception as error:
        raise RuntimeFailure(
            f"ONNX Runtime can't load {path.name}: {first_line(error)}",
            "a newer onnxruntime may know its opset and operators: pip install -U onnxruntime",
        ) from error
    fallen = [name for name in providers if name not in runtime.get_providers()]
    if fallen:
        raise CannotRunHere(f"ONNX Runtime could not start {', '.join(fallen)} here", "use -k providers=cpu")
    return runtime


def _providers(asked: Sequence[str], available: Sequence[str]) -> list[str]:
    """Full provider names. Raises OptionError for one this build of ONNX Runtime lacks."""
    if tuple(asked) == ("auto",):
        return [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
    short = {name.removesuffix("ExecutionProvider").lower(): name for name in available}
    chosen = []
    for name in asked:
        full = name if name in available else short.get(name.lower())
        if full is None:
            raise OptionError(f"this onnxruntime has no provider {name!r}", f"it has {', '.join(sorted(short))}")
        chosen.append(full)
    return chosen
