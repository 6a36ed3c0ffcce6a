"""The child's half of a benchmark: one loaded model that is timed when the parent says so."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract.artifacts import Artifact
from ..contract.options import option_keys
from ..contract.sessions import Session
from ..contract.tensors import cast
from ..model import reference, resolve
from ..plugins import calls, manager
from ..store import manifest, versions
from ..store.arrays import load_npz
from .contestant import Contestant

if TYPE_CHECKING:
    from ..contract.tensors import Arrays


class Runner:
    """One contestant in its own process, and the inputs that all of them get."""

    def __init__(self) -> None:
        self._call: Callable[[], Any] = lambda: None
        self._close: Callable[[], None] = lambda: None
        self._profile: Callable[[], Mapping[str, Any]] = dict

    def load(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Load the contestant, and call it until it is warm."""
        contestant, inputs = Contestant.from_json(job["contestant"]), load_npz(Path(job["inputs"]))
        begun = time.perf_counter()
        open_it = self._load_artifact if contestant.artifact is not None else self._load_source
        details = open_it(contestant, inputs)
        ended = time.perf_counter()
        call, last = self._call, 0.0
        for _ in range(max(1, job["warmup"])):
            start = time.perf_counter()
            call()
            last = time.perf_counter() - start
        details = {**details, **self._profile()}
        return {"load_seconds": ended - begun, "call_seconds": last, "details": details}

    def _load_artifact(self, contestant: Contestant, inputs: Arrays) -> dict[str, Any]:
        assert contestant.artifact is not None
        values = dict(contestant.options)

        def opened() -> tuple[Artifact, Session]:
            assert contestant.artifact is not None
            artifact = manifest.read(contestant.artifact, check_files=False)
            if "threads" in option_keys(manager.target(artifact.format).target.verb("run").options):
                values.setdefault("threads", str(contestant.threads))
            return artifact, calls.open_session(artifact, values)

        artifact, session = versions.steady(Path(contestant.artifact), opened, undo=lambda both: both[1].close())
        plugin = manager.target(artifact.format)
        native = {spec.name: cast(inputs[spec.name], spec.dtype) for spec in artifact.inputs}
        self._call, self._close = lambda: session(native), session.close
        if "benchmark" in plugin.verbs:
            options = calls.options_for(artifact.format, "run", values)
            self._profile = lambda: calls.call(
                plugin, "benchmark", artifact=artifact, inputs=native, options=options
            )
        return session.details

    def _load_source(self, contestant: Contestant, inputs: Arrays) -> dict[str, Any]:
        """Eager PyTorch gets ready tensors: its time must not include a conversion its users don't pay."""
        import torch

        torch.set_num_threads(contestant.threads)
        loaded = resolve.resolve(contestant.source, contestant.load)
        specs = loaded.specs
        if loaded.reference is not None:
            answer = loaded.reference
            self._call = lambda: answer(inputs)
            return {"reference": loaded.format}
        ready = {spec.name: reference.to_torch(cast(inputs[spec.name], spec.dtype)) for spec in specs}
        module = loaded.module.module() if reference.is_program(loaded.module) else loaded.module.eval()
        args, kwargs = reference.arguments(loaded.module, specs, ready)
        if contestant.compiled:
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
