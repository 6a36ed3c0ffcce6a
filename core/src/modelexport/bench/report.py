"""Benchmark artifacts against each other and a baseline, one timing loop for every target.

Each contestant lives in a fresh process of its own (so its peak memory is its own) with the same number of
threads. They run in turns, a short block each, in an order that rotates: whatever disturbs the machine hits
all of them alike, and the ratio to the baseline is taken turn by turn, with its spread.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..contract import progress
from ..contract.artifacts import Artifact
from ..errors import OptionError
from ..gate import worker
from ..store.scratch import scratch
from .contestant import Baseline, Contestant, contestants
from .inputs import save, shared_inputs
from .turns import take_turns


@dataclass(frozen=True)
class Effort:
    """How long each contestant is timed: `runs` calls and `seconds` at least.

    The first `warmup` calls don't count. `threads` is how many each gets; None: as many as there are cores.
    """

    runs: int = 30
    seconds: float = 3.0
    warmup: int = 5
    threads: int | None = None

    def check(self) -> None:
        """Raises OptionError where that is nothing."""
        if self.runs < 1 or self.seconds < 0 or self.warmup < 0:
            raise OptionError("a benchmark needs at least one run", "give --runs 1 or more, --seconds 0 or more")


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
    artifacts: Sequence[Artifact],
    baseline: Baseline,
    effort: Effort,
    dims: Mapping[str, int],
    input_file: Path | None,
    values: Mapping[str, Any],
) -> BenchReport:
    """Time every artifact and the baseline. `values` are run options by key.

    Inputs come from `input_file` (.npz) or are drawn at `dims` (default: `batch` at its low end, others at their
    middle). Raises OptionError where nothing is to be timed, InputError when the artifacts do not take the same
    inputs.
    """
    effort.check()
    if not artifacts:
        raise OptionError("no artifact to benchmark", "give the folder that `mx export` wrote")
    threads = effort.threads or _cores()
    inputs, sizes = shared_inputs(artifacts, dims, input_file)
    with scratch("bench") as folder, ExitStack() as stack:
        data = folder / "inputs.npz"
        save(inputs, data)
        competing = contestants(artifacts, baseline, values, threads)
        children, loaded = [], []
        for each in competing:
            progress.stage(f"load {each.name}")
            child = stack.enter_context(worker.start(f"running {each.name}", _pinned(threads)))
            job = {"job": "bench-load", "inputs": str(data), "warmup": effort.warmup}
            loaded.append(child.ask({**job, "contestant": each.to_json()}))
            children.append(child)
        progress.stage("run in turns")
        guesses = [answer["call_seconds"] for answer in loaded]
        times = take_turns(children, guesses, effort.runs, effort.seconds)
        ends = [child.ask({"job": "bench-stop"}) for child in children]
    base = next((index for index, each in enumerate(competing) if each.is_baseline), None)
    figures = tuple(
        _figures(each, answer, end, own, times[base] if base is not None else None, sizes)
        for each, answer, end, own in zip(competing, loaded, ends, times, strict=True)
    )
    name = competing[base].name if base is not None else None
    return BenchReport(figures, name, threads, sizes, len(times[0]), _environment())


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _environment() -> dict[str, Any]:
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
    }


def _pinned(threads: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {name: str(threads) for name in names}


def _figures(
    contestant: Contestant,
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
        name=contestant.name,
        runs=flat.size,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        mean_ms=float(flat.mean() * 1e3),
        throughput=sizes.get("batch", 1) / float(flat.mean()),
        load_ms=loaded["load_seconds"] * 1e3,
        peak_rss=end["peak_rss"],
        file_size=contestant.size,
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
