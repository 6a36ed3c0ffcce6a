"""The plugin API: every hook a plugin may implement. The verbs a target supports are the hooks it has.

A target is a module (or object) named by an entry point in the group `mx.targets`; a source, by one in
`mx.sources`; a wrapper around every target's hooks (`@hookimpl(wrapper=True)`), by one in `mx.extensions`.
A plugin's import must be cheap: heavy imports belong inside the hooks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .artifacts import Artifact, Build
    from .goal import Goal
    from .samples import Calibration
    from .sessions import Session
    from .sources import Captured, LoadOptions, Source
    from .target import Target
    from .tensors import Arrays

PROJECT = "mx"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def mx_target() -> Target:  # type: ignore[empty-body]
    """Describe the target, as plain data, without importing its backend.

    Every target implements it; `Target.name` equals the entry point's name.

    >>> @hookimpl
    ... def mx_target():
    ...     return Target("tape", "a list of NumPy calls", verbs={"export": Verb(needs=("torch",))})
    >>> mx_target().consumes
    ('captured',)
    """


@hookspec(firstresult=True)
def mx_machine() -> Mapping[str, str]:  # type: ignore[empty-body]
    """What this machine can't do although every package is there: verb → what it lacks, in a few words.

    Optional, and cheap: it looks for a driver or a device, and imports no backend. `{"run": "no NVIDIA driver"}`
    makes `mx targets` say "builds ahead of time; cannot run here". `mx_run` raises `CannotRunHere` by itself.

    >>> @hookimpl
    ... def mx_machine():
    ...     return {} if shutil.which("nvidia-smi") else {"run": "no NVIDIA driver"}
    >>> sorted(mx_machine()) in ([], ["run"])
    True
    """


@hookspec(firstresult=True)
def mx_check(options: Mapping[str, Any], source: Source | None, precision: str | None, calibrated: bool) -> None:
    """Refuse now what would be refused after minutes of work: options that the source or one another contradict.

    Optional, and cheap; what is wrong with one verb's options alone, their `__post_init__` says. `options` holds
    those of the verbs that will be called, by verb, `precision` is that of `--precision`, and `calibrated` says
    whether there is calibration data. It is called before the model is loaded, with `source` None, and by
    `mx export` again when its inputs are known, with the model that the whole chain starts from, whatever its
    format. Raises OptionError, SourceError.

    >>> @hookimpl
    ... def mx_check(options, source, precision, calibrated):
    ...     if "quantize" in options and not calibrated:
    ...         raise OptionError("ranges of activations come from data", "give --calibration")
    >>> mx_check({"export": None}, None, None, False) is None
    True
    """


@hookspec(firstresult=True)
def mx_export(source: Source | Captured | Artifact, out: Path, options: Any) -> Build:  # type: ignore[empty-body]
    """Write the model into the empty folder `out` and say what was written.

    `source` is in one of the formats that `Target.consumes` lists: a `Source` with a live module ("module"), a
    `Captured` program ("captured"), or an `Artifact` of another target. `options` is an instance of the dataclass
    in `Target.verbs["export"].options`. Third-party errors are raised as `ConversionError` from their cause;
    unsupported operators all at once, with module path and source line. The manifest, golden data and the parity
    gate are core's.

    What a later hook or a session must know of the files goes into `Build.details`, of the types that
    `Target.details` declares. An artifact may come from anybody: its details have passed them before a hook sees
    it, and what they can't say (which dims there are, where a library reads a path) is checked where it is used.

    >>> @hookimpl
    ... def mx_export(source, out, options):
    ...     (out / "model.json").write_text(json.dumps([spec.name for spec in source.outputs]))
    ...     return Build("model.json")
    >>> program = Captured(None, inputs=(), outputs=(TensorSpec("scores", "float32", (1, 3)),))
    >>> mx_export(program, folder, None).entry
    'model.json'
    """


@hookspec(firstresult=True)
def mx_optimize(artifact: Artifact, out: Path, options: Any) -> Build:  # type: ignore[empty-body]
    """Write a faster or smaller equivalent of `artifact` into `out`, at the same precision budget.

    >>> @hookimpl
    ... def mx_optimize(artifact, out, options):
    ...     shutil.copy(artifact.entry_path, out / artifact.entry)  # what is no faster is written unchanged
    ...     return Build(artifact.entry, notes=("nothing helped: the model is written unchanged",))
    >>> mx_optimize(artifact, folder, None).notes
    ('nothing helped: the model is written unchanged',)
    """


@hookspec(firstresult=True)
def mx_quantize(  # type: ignore[empty-body]
    artifact: Artifact, out: Path, options: Any, calibration: Calibration | None, goal: Goal | None
) -> Build:
    """Write `artifact` at a lower precision into `out`; `Build.precision` picks its parity budget.

    `calibration` holds the user's real inputs, where there are any; `goal` scores a Session on a candidate, and
    says how much less than the artifact's own the score may be. A plugin that can look for the configuration
    that meets the goal does (`modelexport.toolkit.LeaveOut`); core measures the result in any case.
    `Build.quantization` says what was done, layer by layer.

    >>> @hookimpl
    ... def mx_quantize(artifact, out, options, calibration, goal):
    ...     (out / "model.json").write_text("[]")
    ...     layers = (QuantizedLayer("head", "linear", "int8"),)
    ...     return Build("model.json", precision="int8", quantization=QuantizationReport("int8", layers=layers))
    >>> mx_quantize(artifact, folder, None, None, None).quantization.layers[0].precision
    'int8'
    """


@hookspec(firstresult=True)
def mx_run(artifact: Artifact, options: Any) -> Session:  # type: ignore[empty-body]
    """Load `artifact` and return a Session. Loading happens here, never in the first call.

    Raises `CannotRunHere` when this machine lacks what the format takes, and `RuntimeFailure` when the
    runtime refuses the files.

    >>> @hookimpl
    ... def mx_run(artifact, options):
    ...     return Session(lambda inputs: {"y": inputs["x"] * 2}, artifact.inputs, artifact.outputs)
    >>> with mx_run(artifact, None) as session:
    ...     session({"x": numpy.ones(3, "float32")})["y"].tolist()
    [2.0, 2.0, 2.0]
    """


@hookspec(firstresult=True)
def mx_benchmark(artifact: Artifact, inputs: Arrays, options: Any) -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Measure with the runtime's own profiler and return extra figures for the report.

    Optional: core times the session of `mx_run` in any case, alike for every target.

    >>> @hookimpl
    ... def mx_benchmark(artifact, inputs, options):
    ...     return {"kernels": 12}
    >>> mx_benchmark(artifact, {}, None)
    {'kernels': 12}
    """


@hookspec(firstresult=True)
def mx_snippet(artifact: Artifact, language: str) -> Mapping[str, str]:  # type: ignore[empty-body]
    """Source code that runs `artifact` in `language`, one of `Target.snippets`: file name → text.

    A program to start from: it loads `artifact.entry`, fills every input under its real name, dtype and shape,
    runs the model and reads every output. Comments say what to link it with. Core writes the files into the
    artifact's folder `snippets/LANGUAGE`.

    >>> @hookimpl
    ... def mx_snippet(artifact, language):
    ...     lines = [f"// {value}" for value in signature(artifact).inputs]
    ...     return {"main.cpp": "\\n".join(lines)}
    >>> mx_snippet(artifact, "cpp")
    {'main.cpp': '// x: float32[3]'}
    """


@hookspec(firstresult=True)
def mx_load(ref: str, options: LoadOptions) -> Source | None:
    """Return the Source that `ref` names, or None when it is not this plugin's kind of reference.

    Must decide without heavy imports: every installed source plugin is asked until one answers. Raises
    `SourceError` when `ref` is its kind but can't be loaded. Never unpickles and never downloads unless
    `options.allow_pickle` or `options.allow_download` says so.

    >>> @hookimpl
    ... def mx_load(ref, options):
    ...     return Source(format="tape", path=Path(ref)) if ref.endswith(".tape") else None
    >>> mx_load("net.onnx", LoadOptions()) is None
    True
    """
