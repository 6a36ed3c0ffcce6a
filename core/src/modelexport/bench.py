"""Benchmark artifacts against each other and a baseline, one timing loop for every target.

Each contestant lives in a fresh process of its own (so its peak memory is its own) with the same number of
threads. They run in turns, a short block each, in an order that rotates: whatever disturbs the machine hits
all of them alike, and the ratio to the baseline is taken turn by turn, with its spread.
"""

from __future__ import annotations

import gc
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import cases, manifest, plugins, worker
from .errors import InputError, OptionError
from .options import keys
from .types import Artifact, Dim, TensorSpec, check_inputs, unify_dims

if TYPE_CHECKING:
    from .types import Arrays

#: how long one turn of one contestant aims to last, in seconds
TURN_SECONDS = 0.05


@dataclass(frozen=True)
class Figures:
    """One contestant's result. Times in milliseconds, memory and size in bytes.

    `ratio` is the median over turns of this contestant's median time divided by the baseline's in the same
    turn (below 1: faster); `ratio_low` and `ratio_high` are the quartiles of the same quotients.
    `throughput` is samples per second: calls per second times the size of the dim called `batch`, if any.
    """

    name: str
    runs: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    throughput: float
    load_ms: float
    peak_rss: int
    file_size: int | None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    details: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class BenchReport:
    """What `benchmark` returns: the figures, and everything needed to repeat them."""

    figures: tuple[Figures, ...]
    baseline: str | None
    threads: int
    dims: Mapping[str, int]
    turns: int
    environment: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def benchmark(
    paths: Sequence[str | os.PathLike[str]],
    *,
    baseline: str | os.PathLike[str] | None = None,
    compile_baseline: bool = False,
    runs: int = 30,
    seconds: float = 3.0,
    warmup: int = 5,
    threads: int | None = None,
    dims: Mapping[str, int] | None = None,
    input_file: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    load: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> BenchReport:
    """Time every artifact, and the `baseline` (an artifact or a source, run eagerly in PyTorch).

    At least `runs` timed calls and `seconds` of them for each, after `warmup` calls. Inputs come from
    `input_file` (.npz) or are drawn at `dims` (default: `batch` at its low end, others at their middle).
    `compile_baseline` adds the baseline source under torch.compile. `load` are keywords for the source
    (`weights`, `task`…). Raises InputError when the artifacts do not take the same inputs.
    """
    if runs < 1 or seconds < 0 or warmup < 0:
        raise OptionError("a benchmark needs at least one run", "give --runs 1 or more, --seconds 0 or more")
    artifacts = [manifest.read(path) for path in paths]
    if not artifacts:
        raise OptionError("no artifact to benchmark", "give the folder that `mx export` wrote")
    threads = (
        threads or len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else threads or os.cpu_count() or 1
    )
    inputs, sizes = _inputs(artifacts, dims or {}, input_file)
    with tempfile.TemporaryDirectory(prefix="mx-bench-") as folder, ExitStack() as stack:
        data = Path(folder) / "inputs.npz"
        _save(inputs, data)
        contestants = _contestants(artifacts, baseline, compile_baseline, options or {}, load or {}, threads)
        children = []
        loaded = []
        for contestant in contestants:
            progress(f"load {contestant['name']}")
            child = stack.enter_context(worker.start(f"running {contestant['name']}", _pinned(threads)))
            loaded.append(child.ask({"job": "bench-load", "inputs": str(data), "warmup": warmup, **contestant}))
            children.append(child)
        progress("run in turns")
        times = _take_turns(children, [answer["call_seconds"] for answer in loaded], runs, seconds)
        ends = [child.ask({"job": "bench-stop"}) for child in children]
    reference = next((i for i, c in enumerate(contestants) if c.get("baseline")), None)
    figures = tuple(
        _figures(contestant, answer, end, own, times[reference] if reference is not None else None, sizes)
        for contestant, answer, end, own in zip(contestants, loaded, ends, times, strict=True)
    )
    return BenchReport(
        figures,
        contestants[reference]["name"] if reference is not None else None,
        threads,
        sizes,
        len(times[0]),
        {
            "platform": platform.platform(),
            "python": platform.python_version(),
            "cpu": _cpu(),
            "cores": os.cpu_count(),
        },
    )


def _inputs(
    artifacts: Sequence[Artifact], dims: Mapping[str, int], file: str | os.PathLike[str] | None
) -> tuple[Arrays, dict[str, int]]:
    specs, held = _common(artifacts)
    sizes = _sizes(specs, dims, held)
    inputs = cases.load_npz(Path(file)) if file else cases.draw(specs, sizes, seed=1)
    for artifact in artifacts:
        try:
            check_inputs(inputs, artifact.inputs)
        except InputError as error:
            raise InputError(f"{artifact.path} does not take these inputs: {error.message}", error.hint) from error
    seen = {
        size.name: inputs[spec.name].shape[axis]
        for spec in specs
        for axis, size in enumerate(spec.shape)
        if isinstance(size, Dim)
    }
    return inputs, seen


def _common(artifacts: Sequence[Artifact]) -> tuple[tuple[TensorSpec, ...], dict[str, int]]:
    """The inputs of the widest artifact within bounds that all take, and the dims that some hold at one size.

    Raises OptionError where no size suits all.
    """
    widest = max((artifact.inputs for artifact in artifacts), key=lambda specs: sum(len(s.dims) for s in specs))
    held: dict[str, int] = {}
    bounds: list[TensorSpec] = []
    for artifact in artifacts:
        shapes = {spec.name: spec.shape for spec in artifact.inputs}
        pairs = [pair for spec in widest for pair in zip(spec.shape, shapes.get(spec.name, ()), strict=False)]
        for size, own in ((size, own) for size, own in pairs if isinstance(size, Dim)):
            if isinstance(own, Dim):
                bounds.append(TensorSpec(size.name, "bool", (replace(own, name=size.name),)))
            elif held.setdefault(size.name, own) != own:
                raise OptionError(
                    f"{size.name} is {held[size.name]} in one artifact and {own} in another",
                    "benchmark them apart",
                )
    return unify_dims([*widest, *bounds])[: len(widest)], held


def _sizes(specs: Sequence[TensorSpec], asked: Mapping[str, int], held: Mapping[str, int]) -> dict[str, int]:
    known = {dim.name: dim for dim in cases.dims_of(specs)}
    for name, size in (dict(asked) | {name: asked.get(name, size) for name, size in held.items()}).items():
        if name not in known:
            raise OptionError(f"the model has no dynamic dim {name!r}", f"it has {', '.join(known) or 'none'}")
        if not known[name].allows(size) or held.get(name, size) != size:
            takes = f"{name}={held[name]}" if name in held else known[name]
            raise OptionError(f"size {size} of {name} is outside {takes}", "give a size within the bounds")
    sizes = cases.middle_sizes(specs)
    if "batch" in known:
        sizes["batch"] = known["batch"].min
    return sizes | dict(held) | dict(asked)


def _save(inputs: Arrays, path: Path) -> None:
    import numpy as np

    arrays: dict[str, Any] = {
        name: array.astype(np.float32) if array.dtype.name == "bfloat16" else array
        for name, array in inputs.items()
    }
    np.savez(path, **arrays)


def _contestants(
    artifacts: Sequence[Artifact],
    baseline: str | os.PathLike[str] | None,
    compile_baseline: bool,
    options: Mapping[str, Any],
    load: Mapping[str, Any],
    threads: int,
) -> list[dict[str, Any]]:
    """What each child is asked to load; names are the paths, the baseline marked."""
    found: list[dict[str, Any]] = []
    base = Path(baseline).resolve() if baseline is not None else None
    if baseline is not None and not (Path(baseline) / manifest.NAME).is_file():
        specs = [str(spec) for spec in artifacts[0].inputs]
        eager = {
            "kind": "source",
            "ref": os.fspath(baseline),
            "specs": specs,
            "load": dict(load),
            "threads": threads,
        }
        found.append({**eager, "name": f"{Path(baseline).name} (PyTorch eager)", "baseline": True})
        if compile_baseline:
            found.append({**eager, "name": f"{Path(baseline).name} (torch.compile)", "compile": True})
        base = None
    elif baseline is not None and base not in [a.path.resolve() for a in artifacts]:
        artifacts = [manifest.read(baseline), *artifacts]
    for artifact in artifacts:
        found.append(
            {
                "kind": "artifact",
                "path": str(artifact.path),
                "name": str(artifact.path),
                "size": artifact.size,
                "threads": threads,
                "options": _own_options(artifact, options),
                "baseline": base is not None and artifact.path.resolve() == base,
            }
        )
    return found


def _own_options(artifact: Artifact, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that concern this artifact's target, when several targets compete."""
    kind = plugins.require(artifact.format, "run").target.options.get("run")
    mine = keys(kind) if kind else set()
    return {key: value for key, value in options.items() if "." in key or key in mine} or dict(options)


def _pinned(threads: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {name: str(threads) for name in names}


def _take_turns(
    children: Sequence[worker.Child], guesses: Sequence[float], runs: int, seconds: float
) -> list[list[list[float]]]:
    """Times in seconds: contestant → turn → calls. Turns go on until each has enough calls and time."""
    blocks = [max(1, min(1000, int(TURN_SECONDS / max(guess, 1e-7)))) for guess in guesses]
    times: list[list[list[float]]] = [[] for _ in children]
    order = list(range(len(children)))
    while any(sum(map(len, own)) < runs or sum(map(sum, own)) < seconds for own in times):
        for index in order:
            answer = children[index].ask({"job": "bench-run", "calls": blocks[index]})
            times[index].append(answer["seconds"])
        order = order[1:] + order[:1]
    return times


def _figures(
    contestant: Mapping[str, Any],
    loaded: Mapping[str, Any],
    end: Mapping[str, Any],
    times: list[list[float]],
    baseline: list[list[float]] | None,
    sizes: Mapping[str, int],
) -> Figures:
    import numpy as np

    flat = np.array([call for turn in times for call in turn])
    p50, p90, p99 = (float(value) for value in np.percentile(flat, [50, 90, 99]) * 1e3)
    ratios: tuple[float | None, float | None, float | None] = (None, None, None)
    if baseline is not None:
        quotients = [np.median(own) / np.median(base) for own, base in zip(times, baseline, strict=True)]
        low, middle, high = (float(value) for value in np.percentile(quotients, [25, 50, 75]))
        ratios = (middle, low, high)
    return Figures(
        name=contestant["name"],
        runs=flat.size,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        mean_ms=float(flat.mean() * 1e3),
        throughput=sizes.get("batch", 1) / float(flat.mean()),
        load_ms=loaded["load_seconds"] * 1e3,
        peak_rss=end["peak_rss"],
        file_size=contestant.get("size"),
        ratio=ratios[0],
        ratio_low=ratios[1],
        ratio_high=ratios[2],
        details=loaded["details"],
    )


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


# --------------------------------------------------------------------------------------- child side


class Contestant:
    """The child's half: one loaded model and its inputs."""

    def __init__(self) -> None:
        self._call: Callable[[], Any] = lambda: None
        self._close: Callable[[], None] = lambda: None
        self._profile: Callable[[], Mapping[str, Any]] = dict

    def load(self, job: Mapping[str, Any]) -> dict[str, Any]:
        inputs = cases.load_npz(Path(job["inputs"]))
        begun = time.perf_counter()
        details = self._load_source(job, inputs) if job["kind"] == "source" else self._load_artifact(job, inputs)
        ended = time.perf_counter()
        call, last = self._call, 0.0
        for _ in range(max(1, job["warmup"])):
            start = time.perf_counter()
            call()
            last = time.perf_counter() - start
        details = {**details, **self._profile()}
        return {"load_seconds": ended - begun, "call_seconds": last, "details": details}

    def _load_artifact(self, job: Mapping[str, Any], inputs: Arrays) -> dict[str, Any]:
        from . import api

        artifact = manifest.read(job["path"], check_files=False)
        options = dict(job["options"])
        kind = plugins.target(artifact.format).target.options.get("run")
        if kind and "threads" in keys(kind):
            options.setdefault("threads", str(job["threads"]))
        session = api.open_session(artifact, options)
        native = {spec.name: cases.cast(inputs[spec.name], spec.dtype) for spec in artifact.inputs}
        self._call, self._close = lambda: session(native), session.close
        plugin = plugins.target(artifact.format)
        if "benchmark" in plugin.verbs:
            chosen = api.target_options([artifact.format], "run", options)[artifact.format]
            self._profile = lambda: plugins.call(
                plugin, "benchmark", artifact=artifact, inputs=native, options=chosen
            )
        return session.details

    def _load_source(self, job: Mapping[str, Any], inputs: Arrays) -> dict[str, Any]:
        """Eager PyTorch gets ready tensors: its time must not include a conversion its users don't pay."""
        import torch

        from . import source, torchref
        from .types import LoadOptions

        torch.set_num_threads(job["threads"])
        given = dict(job["load"])
        given["weights"] = Path(given["weights"]) if given.get("weights") else None
        loaded = source.resolve(job["ref"], LoadOptions(inputs=tuple(job["specs"]), **given))
        specs = loaded.specs
        tensors = {spec.name: torchref.to_torch(cases.cast(inputs[spec.name], spec.dtype)) for spec in specs}
        if loaded.reference is not None:
            reference = loaded.reference
            self._call = lambda: reference(inputs)
            return {"reference": loaded.format}
        module = loaded.module.module() if torchref.is_program(loaded.module) else loaded.module.eval()
        args, kwargs = torchref.arguments(loaded.module, specs, tensors)
        if job.get("compile"):
            module = torch.compile(module)

        def call() -> Any:
            with torch.inference_mode():
                return module(*args, **kwargs)

        self._call = call
        return {"torch": torch.__version__, "threads": torch.get_num_threads()}

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """One turn: a call that is not timed, to warm what the others cooled, then the timed ones."""
        call, clock = self._call, time.perf_counter_ns
        call()
        times = [0] * job["calls"]
        gc.disable()
        for index in range(job["calls"]):
            start = clock()
            call()
            times[index] = clock() - start
        gc.enable()
        rest()
        return {"seconds": [nanoseconds * 1e-9 for nanoseconds in times]}

    def stop(self, _: Mapping[str, Any]) -> dict[str, Any]:
        peak = peak_rss()
        self._close()
        return {"peak_rss": peak}


def rest(step: float = 0.005, longest: float = 0.25) -> None:
    """Wait, for `longest` seconds at most, until the threads of this process sleep.

    Runtimes let their threads spin after a call, ONNX Runtime for 35 ms: on the cores of whoever comes next.
    """
    deadline = time.perf_counter() + longest
    while time.perf_counter() < deadline:
        before = time.process_time()
        time.sleep(step)
        if time.process_time() - before < step / 5:
            return


def peak_rss() -> int:
    """Peak resident memory of this process in bytes.

    Linux's ru_maxrss starts at the parent's peak (it survives exec), so VmHWM is read there.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024
