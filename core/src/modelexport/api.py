"""The verbs as functions: what the command line calls, and what `import modelexport as mx` offers.

Each verb that writes ends with the parity gate, and its artifact appears in place only when it is finished.
Keywords are gathered here into the three values that the work is done with: how to load, how to judge, how to
verify.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .bench.contestant import Baseline
from .bench.report import BenchReport, Effort
from .bench.report import benchmark as time_in_turns
from .contract.artifacts import Artifact
from .contract.progress import Progress, silent, telling
from .contract.sessions import Session
from .contract.sources import LoadOptions
from .gate.opening import open_artifact
from .store import manifest
from .work import recheck, transform
from .work.export import export as export_all
from .work.requests import Judgement, Verification
from .work.ways import Request

PathLike = str | os.PathLike[str]


def export(
    source: Any,
    targets: Sequence[str] | str,
    out: PathLike = "build",
    *,
    name: str | None = None,
    options: Mapping[str, Any] | None = None,
    inputs: Sequence[str] = (),
    dims: Sequence[str] = (),
    sample: PathLike | None = None,
    weights: PathLike | None = None,
    task: str | None = None,
    register: Sequence[str] = (),
    snippet: Sequence[str] = (),
    tolerance: Mapping[str, float] | str | None = None,
    verify: bool = True,
    allow_pickle: bool = False,
    allow_download: bool = False,
    allow_file_access: bool = False,
    precision: str | None = None,
    calibration: Any = None,
    samples: int = 128,
    seed: int = 0,
    column: str | None = None,
    metric: str = "cosine",
    evaluate: Callable[[Session], float] | str | None = None,
    max_drop: float | None = None,
    progress: Progress = silent,
) -> tuple[Artifact, ...]:
    """Export `source` to every one of `targets`; returns their artifacts, `out/NAME.TARGET`, in that order.

    The model is captured once for all targets. `source` is a reference as on the command line, an
    `nn.Module` with `inputs` (or a `Source`). `options` are the targets' own, `key` or `target.key`; `dims` fix or
    narrow dynamic dims, `name=size` or `target.name=size`. `snippet` names languages to write code in that loads
    and runs the artifact, in its folder `snippets`, for the targets that have them.

    With `precision`, `NAME.PRECISION.TARGET` is returned: optimized and quantized as the target does that, or
    compiled from a format on the way that was. Each step of the target's own is an artifact beside it; one that is
    there already and was made from the same model, with the same options and tools, is reused. `calibration` and
    what follows are as in `quantize`; `tolerance` is the last step's.

    Raises a subclass of MxError. What is in place is replaced only when the whole command has succeeded;
    ParityError leaves the artifact as `NAME.TARGET.failed` for inspection.
    """
    with telling(progress):
        request = Request(
            source,
            (targets,) if isinstance(targets, str) else tuple(dict.fromkeys(targets)),
            Path(out),
            _load_options(inputs, weights, task, allow_pickle, allow_download, allow_file_access),
            Judgement.read(calibration, samples, seed, column, metric, evaluate, max_drop),
            Verification.read(verify, tolerance, _path(sample)),
            register=register,
            name=name,
            values=options or {},
            dims=dims,
            languages=tuple(snippet),
            precision=precision,
        )
        return export_all(request)


def load(path: PathLike) -> Artifact:
    """The artifact at `path`, after checking the sha256 of its files. Raises ArtifactError."""
    return manifest.load(path)


def run(path: PathLike, options: Mapping[str, Any] | None = None) -> Session:
    """Load an artifact and return its Session; use it as a context manager.

    with run("build/model.onnx") as session:
        outputs = session({"x": array})
    """
    return open_artifact(path, options or {})[1]


def verify(
    path: PathLike,
    *,
    source: Any = None,
    sample: PathLike | None = None,
    tolerance: Mapping[str, float] | str | None = None,
    options: Mapping[str, Any] | None = None,
    inputs: Sequence[str] = (),
    weights: PathLike | None = None,
    task: str | None = None,
    allow_pickle: bool = False,
    allow_download: bool = False,
    allow_file_access: bool = False,
    progress: Progress = silent,
) -> Artifact:
    """Run the parity gate on an artifact again, against its golden data or, with `source`, the model itself.

    The manifest is updated with the result, which is in `Artifact.parity` of the one returned.
    Raises ParityError when the gate fails: the manifest then says `"verified": false`.
    """
    with telling(progress):
        loading = _load_options(inputs, weights, task, allow_pickle, allow_download, allow_file_access)
        if source is None:
            loading.refuse_idle("--source")
        verification = Verification.read(True, tolerance, _path(sample))
        return recheck.verify(Path(path), source, loading, options or {}, verification)


def optimize(
    path: PathLike,
    out: PathLike | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    tolerance: Mapping[str, float] | str | None = None,
    verify: bool = True,
    progress: Progress = silent,
) -> Artifact:
    """Write an optimized copy of an artifact to `out` (default: beside it); it passes the same gate.

    Raises a subclass of MxError; ParityError leaves the copy as `OUT.failed` for inspection.
    """
    with telling(progress):
        return transform.optimize(load(path), _path(out), options or {}, Verification.read(verify, tolerance))


def quantize(
    path: PathLike,
    out: PathLike | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    calibration: Any = None,
    samples: int = 128,
    seed: int = 0,
    column: str | None = None,
    metric: str = "cosine",
    evaluate: Callable[[Session], float] | str | None = None,
    max_drop: float | None = None,
    tolerance: Mapping[str, float] | str | None = None,
    verify: bool = True,
    progress: Progress = silent,
) -> Artifact:
    """Write a quantized copy of an artifact to `out` (default: beside it); it passes its precision's gate.

    `calibration` is real data: a path or an iterable, as docs/reference/calibration.md says. At most `samples` of
    it are drawn by `seed`, of a table's `column`; a quarter of them is held out to judge the copy on, by `metric`,
    or by `evaluate`, a function of a Session. What was lost, and all that was done, is in `quantization` of the
    artifact returned.

    Raises a subclass of MxError; ParityError, when the copy fails the gate or loses more than `max_drop`, leaves
    it as `OUT.failed` for inspection.
    """
    with telling(progress):
        judgement = Judgement.read(calibration, samples, seed, column, metric, evaluate, max_drop)
        verification = Verification.read(verify, tolerance)
        return transform.quantize(load(path), _path(out), options or {}, judgement, verification)


def benchmark(
    paths: Sequence[PathLike] | PathLike,
    *,
    baseline: PathLike | None = None,
    compile_baseline: bool = False,
    runs: int = 30,
    seconds: float = 3.0,
    warmup: int = 5,
    threads: int | None = None,
    dims: Mapping[str, int] | None = None,
    input_file: PathLike | None = None,
    options: Mapping[str, Any] | None = None,
    weights: PathLike | None = None,
    task: str | None = None,
    progress: Progress = silent,
) -> BenchReport:
    """Time every artifact, and the `baseline` (an artifact or a source, run eagerly in PyTorch).

    At least `runs` timed calls and `seconds` of them for each, after `warmup` calls. Inputs come from
    `input_file` (.npz) or are drawn at `dims` (default: `batch` at its low end, others at their middle).
    `compile_baseline` adds the baseline source under torch.compile. `weights` and `task` are the baseline
    source's.

    Raises InputError when the artifacts do not take the same inputs.
    """
    with telling(progress):
        ref = None if baseline is None else os.fspath(baseline)
        against = Baseline(ref, compile_baseline, _load_options((), weights, task))
        listed = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        artifacts = [load(path) for path in listed]
        effort = Effort(runs, seconds, warmup, threads)
        return time_in_turns(artifacts, against, effort, dims or {}, _path(input_file), options or {})


def _path(path: PathLike | None) -> Path | None:
    return None if path is None else Path(path)


def _load_options(
    inputs: Sequence[str], weights: PathLike | None, task: str | None, *allowed: bool
) -> LoadOptions:
    """`allowed`: unpickling, downloads, files that a model's code opens."""
    return LoadOptions(tuple(inputs), _path(weights), task, *allowed)


__all__ = ["benchmark", "export", "load", "optimize", "quantize", "run", "verify"]
