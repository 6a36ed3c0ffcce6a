"""model.onnx → Session, on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modelexport.contract import Artifact, Session
from modelexport.errors import CannotRunHere, OptionError, RuntimeFailure, first_line
from modelexport.toolkit import importable, scratch

from . import RunOptions, bounds, files, rounding
from .details import AS_WRITTEN

if TYPE_CHECKING:
    from .rounding import Half

Level = Literal["none", "basic", "extended", "all"]

_LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}

#: what an artifact's details say of how it is run: session entries, and the dtype whose roundings are simulated
CONFIG, ROUNDED = "session", "rounded"


# --------------------------------------------------------------------------------------- artifacts


def open_artifact(artifact: Artifact, options: RunOptions) -> Session:
    """A Session on the artifact. Raises RuntimeFailure when ONNX Runtime refuses the file.

    Raises CannotRunHere when it refuses one that was optimized for a device that is not here.
    """
    dtype = simulates(artifact.details, options)
    try:
        runtime = _opened(artifact, options, dtype)
    except RuntimeFailure as error:
        device = str(artifact.details.get("target_device", "cpu"))
        if device == "cpu" or _has(device) or "NOT_IMPLEMENTED" not in error.message:
            raise
        raise CannotRunHere(
            f"the model was optimized for {device}, which this onnxruntime has no provider for: {error.message}",
            "run it where there is one",
        ) from error
    details = {"providers": runtime.get_providers(), "threads": options.threads}
    call = caller(runtime, [spec.name for spec in artifact.outputs])
    note = f"{dtype} is simulated: computed in float32, every number rounded" if dtype else ""
    return Session(call, artifact.inputs, artifact.outputs, details=details, note=note)


def on_model(artifact: Artifact, model: Any) -> Session:
    """A Session on a form of the artifact's model in memory, computed as it is written."""
    runtime = open_model(model, config=AS_WRITTEN)
    return Session(caller(runtime, [spec.name for spec in artifact.outputs]), artifact.inputs, artifact.outputs)


def simulates(details: Mapping[str, Any], options: RunOptions) -> Half | None:
    """The dtype whose roundings are simulated for an artifact with these details; None where it is run as it is.

    A model for a device that has the dtype is simulated, unless a provider for such a device is asked for.
    """
    elsewhere = set(options.providers) - {"auto", "cpu"}
    dtype: Half | None = details.get(ROUNDED)
    return None if elsewhere else dtype


def elsewhere(dtype: Half) -> dict[str, Any]:
    """The details of a model in half precision that a device is to compute, and not ONNX Runtime here."""
    return {CONFIG: AS_WRITTEN, ROUNDED: dtype}


def running(details: Mapping[str, Any]) -> dict[str, Any]:
    """What a session reads of an artifact's details: for whoever keeps the model and runs it elsewhere."""
    return {key: details[key] for key in (CONFIG, ROUNDED) if key in details}


def _opened(artifact: Artifact, options: RunOptions, dtype: Half | None) -> Any:
    config = artifact.details.get(CONFIG, {})
    if dtype is None:
        return open_file(artifact.entry_path, options, config)
    if not importable("onnx"):
        raise CannotRunHere(
            f"the model is for a device with {dtype}, and simulating it takes onnx", "pip install onnx"
        )
    return _open_model(rounding.simulated(files.load(artifact.entry_path), dtype), options, config)


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


# --------------------------------------------------------------------------------------- files, models


def open_file(path: Path, options: RunOptions, config: Mapping[str, str] | None = None) -> Any:
    """An `InferenceSession` on a file, with the providers, threads and optimization asked for.

    `config` are ONNX Runtime's session configuration entries: an artifact may need some to be fast.
    """
    bounds.check(path)
    return _open(str(path), path.name, options, config)


def open_model(
    model: Any, optimization: Level = "all", config: Mapping[str, str] | None = None, profile: Path | None = None
) -> Any:
    """An `InferenceSession` on a model in memory, on the CPU."""
    return _open_model(model, RunOptions(providers=("cpu",), optimization=optimization), config, profile)


def _open_model(
    model: Any, options: RunOptions, config: Mapping[str, str] | None, profile: Path | None = None
) -> Any:
    if files.weight_bytes(model) <= files.INLINE_BYTES:
        return _open(model.SerializeToString(), "the model", options, config, profile)
    with scratch("onnx") as folder:
        file = folder / files.FILE
        files.save(model, file)
        return _open(str(file), "the model", options, config, profile)


def _open(
    file: str | bytes,
    name: str,
    options: RunOptions,
    config: Mapping[str, str] | None,
    profile: Path | None = None,
) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _LEVELS[options.optimization])
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 3
    for key, value in (config or {}).items():
        settings.add_session_config_entry(key, value)
    if profile is not None:
        settings.enable_profiling, settings.profile_file_prefix = True, str(profile)
    if options.custom_ops:
        settings.register_custom_ops_library(options.custom_ops)
    providers = _providers(options.providers, onnxruntime.get_available_providers())
    try:
        runtime = onnxruntime.InferenceSession(file, settings, providers=providers)
    except Exception as error:
        raise RuntimeFailure(
            f"ONNX Runtime can't load {name}: {first_line(error)}", _way_out(str(error))
        ) from error
    fallen = [name for name in providers if name not in runtime.get_providers()]
    if fallen:
        raise CannotRunHere(f"ONNX Runtime could not start {', '.join(fallen)} here", "use -k providers=cpu")
    return runtime


def _way_out(message: str) -> str:
    if "Could not find an implementation" in message:
        return (
            "this provider has no kernel of that operator for that dtype: export the model in float32 "
            "(model.float()), or run it where there is one (-k providers=cuda)"
        )
    return "a newer onnxruntime may know its opset and operators: pip install -U onnxruntime"


def _has(device: str) -> bool:
    import onnxruntime

    return f"{device.upper()}ExecutionProvider" in onnxruntime.get_available_providers()


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
