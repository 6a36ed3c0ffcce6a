"""model.engine → Session, on a GPU.

What is wrong with the file is told before the GPU is asked for, and so on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelexport.contract import Artifact, Dim, Session
from modelexport.errors import CannotRunHere, InputError, OptionError, RuntimeFailure
from modelexport.toolkit import bounded, importable

from . import backend, files, flavours, profiles
from .device import Buffer, Device, Graph

if TYPE_CHECKING:
    import tensorrt_rtx as rtx
    from modelexport.contract import Array, Arrays

    from . import RunOptions
    from .flavours import Flavour
    from .profiles import Profile

#: calls before a benchmark counts, and those that it counts
WARM_UP, RUNS = 10, 100


def open_artifact(artifact: Artifact, options: RunOptions) -> Session:
    """A Session on the artifact's engine, whose dims end where its profiles do.

    Raises RuntimeFailure for a damaged file, CannotRunHere without the package, the driver, or a GPU that the
    engine is for.
    """
    engine = _open(artifact, options)
    inputs = tuple(bounded(spec, artifact.details.get("bounds", {})) for spec in artifact.inputs)
    details = {"gpu": flavours.gpus()[options.device], "cuda_graph": options.cuda_graph}
    return Session(engine, inputs, artifact.outputs, engine.close, details)


def benchmark(artifact: Artifact, inputs: Arrays, options: RunOptions) -> Mapping[str, Any]:
    """Milliseconds of the GPU for a call, without copies to and from it."""
    engine = _open(artifact, options)
    try:
        taken = sorted(engine.timings(inputs))
    finally:
        engine.close()
    return {"device_p50_ms": taken[len(taken) // 2], "device_p90_ms": taken[len(taken) * 9 // 10]}


def _open(artifact: Artifact, options: RunOptions) -> Engine:
    flavour = flavours.BY_NAME[artifact.details["flavour"]]
    if not importable(flavour.module):
        raise CannotRunHere(f"the engine takes {flavour.name}, which is not installed", flavour.install)
    check_file(artifact, flavour)
    check_machine(artifact, flavour, options)
    return Engine(artifact, flavour, options)


def check_file(artifact: Artifact, flavour: Flavour) -> None:
    """Raise RuntimeFailure for a file that isn't the engine that was written. Needs no GPU."""
    path = artifact.entry_path
    size = path.stat().st_size
    if size != artifact.details["bytes"] or (flavour.ahead and files.malformed(flavour.load(), path)):
        raise RuntimeFailure(
            f"{path.name} is no engine of this version of {flavour.name}, or a damaged one ({size} bytes)",
            "export the model again",
        )


def check_machine(artifact: Artifact, flavour: Flavour, options: RunOptions) -> None:
    """Raise CannotRunHere for what this machine lacks, OptionError for an option that can't be."""
    if options.runtime_cache is not None and not flavour.ahead:
        raise OptionError(f"{flavour.name} has no runtime cache: it compiles when it builds", "leave it out")
    if lacks := flavours.lacking():
        raise CannotRunHere(lacks, "run it on a machine with an NVIDIA GPU")
    if lacks := flavours.without_bindings():
        raise CannotRunHere(lacks, "pip install 'modelexport-tensorrt[run]'")
    here, wanted = flavours.gpus(), artifact.details["sm"]
    if not 0 <= options.device < len(here):
        raise OptionError(f"there is no GPU {options.device}", f"0 to {len(here) - 1}")
    if here[options.device] not in wanted:
        raise CannotRunHere(
            f"the engine is for {', '.join(wanted)}, and the GPU here is {here[options.device]}",
            f"build another with -k sm={here[options.device]}, where {flavour.name} can",
        )


class Engine:
    """An engine with its execution context and its memory on one GPU: call it with arrays by name."""

    def __init__(self, artifact: Artifact, flavour: Flavour, options: RunOptions) -> None:
        self._trt = flavour.load()
        self._log = backend.Log()
        self._inputs, self._outputs = artifact.inputs, artifact.outputs
        texts = artifact.details["profiles"]
        self._profiles: tuple[Profile, ...] = tuple(profiles.read(text, artifact.inputs) for text in texts)
        self._profile = 0
        self._data_dependent = False
        with ExitStack() as stack:
            self._load(artifact, flavour, options, stack)
            self._cleanup = stack.pop_all()

    def _load(self, artifact: Artifact, flavour: Flavour, options: RunOptions, stack: ExitStack) -> None:
        """What is put on `stack` is undone in the end, and at once where something fails."""
        self._device = Device(options.device)
        stack.callback(self._device.close)
        self._buffers = {spec.name: Buffer(self._device) for spec in (*artifact.inputs, *artifact.outputs)}
        for buffer in self._buffers.values():
            stack.callback(buffer.free)
        self._engine = self._deserialize(artifact.entry_path, options.plugins)
        for name in ("_runtime", "_engine", "_context"):  # in reverse: each before what it stands on
            stack.callback(self.__dict__.pop, name, None)
        self._context = self._make_context(flavour, options, stack)
        #: recorded launches by the sizes they are for; TensorRT-RTX records and replays by itself
        self._graphs: dict[tuple[tuple[int, ...], ...], Graph] | None = (
            {} if options.cuda_graph and not flavour.ahead else None
        )
        stack.callback(self._forget_graphs)
        self._allocators = {spec.name: self._allocator(spec.name) for spec in artifact.outputs}

    # ----------------------------------------------------------------------------------- loading

    def _deserialize(self, path: Path, plugins: Sequence[str]) -> rtx.ICudaEngine:
        self._runtime: rtx.Runtime = self._trt.Runtime(backend.logger(self._trt, self._log))
        backend.load_plugins(self._runtime, plugins)
        engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise self._failure("load the engine")
        if engine.streamable_weights_size:
            engine.weight_streaming_budget_v2 = engine.get_weight_streaming_automatic_budget()
        return engine

    def _make_context(self, flavour: Flavour, options: RunOptions, stack: ExitStack) -> rtx.IExecutionContext:
        """The execution context; what only TensorRT-RTX has goes through its runtime configuration."""
        if flavour.ahead:
            config = self._engine.create_runtime_config()
            if options.cuda_graph:
                config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            if options.runtime_cache is not None:
                cache = _RuntimeCache(Path(options.runtime_cache), config)
                stack.callback(cache.save)
            context = self._engine.create_execution_context(config)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            raise self._failure("make an execution context")
        return context

    def _allocator(self, name: str) -> Any:
        """Tells how large an output came out whose size depends on the data, and makes room for it."""
        buffer = self._buffers[name]

        class Allocator(self._trt.IOutputAllocator):  # type: ignore[misc, name-defined]
            shape: tuple[int, ...] = ()

            def __init__(self, base: Any) -> None:
                base.__init__(self)

            def reallocate_output(self, tensor: str, memory: int, size: int, alignment: int) -> int:
                buffer.reserve(size)
                return buffer.device

            def reallocate_output_async(
                self, tensor: str, memory: int, size: int, alignment: int, stream: int
            ) -> int:
                return self.reallocate_output(tensor, memory, size, alignment)

            def notify_shape(self, tensor: str, shape: Any) -> None:
                self.shape = tuple(shape)

        return Allocator(self._trt.IOutputAllocator)

    def _failure(self, what: str) -> RuntimeFailure:
        said = self._log.errors[0] if self._log.errors else "it does not say why"
        return RuntimeFailure(f"TensorRT can't {what}: {said}", "is it for this GPU, driver and version?")

    # ----------------------------------------------------------------------------------- calling

    def __call__(self, inputs: Mapping[str, Array]) -> Arrays:
        self._feed(inputs)
        self._launch()
        return self._fetch()

    def timings(self, inputs: Mapping[str, Array]) -> list[float]:
        """Milliseconds of the GPU for each of many calls on inputs that are there already."""
        self._feed(inputs)
        for _ in range(WARM_UP):
            self._launch()
        self._device.wait()
        return [self._device.milliseconds(self._launch) for _ in range(RUNS)]

    def _feed(self, inputs: Mapping[str, Array]) -> None:
        """Choose the profile, copy the inputs to the GPU, and make room for the outputs."""
        import numpy as np

        self._choose({name: array.shape for name, array in inputs.items()})
        moved = False
        for spec in self._inputs:
            array, buffer = inputs[spec.name], self._buffers[spec.name]
            moved |= buffer.reserve(array.nbytes)
            np.copyto(buffer.view(array.shape, array.dtype), array)
            if not self._context.set_input_shape(spec.name, tuple(array.shape)):
                raise self._failure(f"take input {spec.name!r} with shape {list(array.shape)}")
            self._place(spec.name, upload=array.nbytes)
        if missing := self._context.infer_shapes():
            raise self._failure(f"infer shapes from {', '.join(missing)}")
        self._data_dependent = False
        for spec in self._outputs:
            shape = tuple(self._context.get_tensor_shape(spec.name))
            if -1 in shape:
                self._data_dependent = True
                self._context.set_output_allocator(spec.name, self._allocators[spec.name])
                continue
            self._allocators[spec.name].shape = shape
            moved |= self._buffers[spec.name].reserve(_bytes(shape, spec.dtype))
            self._place(spec.name)
        if moved:
            self._forget_graphs()

    def _place(self, name: str, upload: int = 0) -> None:
        """Tell TensorRT where a tensor is: in the host's memory where sizes are reckoned from its values."""
        buffer = self._buffers[name]
        on_host = self._engine.get_tensor_location(name) == self._trt.TensorLocation.HOST
        if upload and not on_host:
            self._device.upload(buffer, upload)
        self._context.set_tensor_address(name, buffer.host if on_host else buffer.device)

    def _choose(self, shapes: Mapping[str, Sequence[int]]) -> None:
        if len(self._profiles) < 2:
            return
        sizes = {
            want.name: size
            for spec in self._inputs
            for size, want in zip(shapes[spec.name], spec.shape, strict=True)
            if isinstance(want, Dim)
        }
        number = profiles.fitting(self._profiles, sizes)
        if number is None:
            asked = ", ".join(f"{name}={size}" for name, size in sizes.items())
            raise InputError(
                f"no profile of the engine takes {asked}", " or ".join(map(profiles.text, self._profiles))
            )
        if number != self._profile:
            self._context.set_optimization_profile_async(number, self._device.stream)
            self._device.wait()
            self._profile = number

    def _launch(self) -> None:
        if self._graphs is None or self._data_dependent:
            self._enqueue()
            return
        shapes = (self._profile,), *(tuple(self._context.get_tensor_shape(spec.name)) for spec in self._inputs)
        if shapes not in self._graphs:
            self._enqueue()  # what is done once only must not be recorded
            self._device.wait()
            self._graphs[shapes] = self._device.record(self._enqueue)
        self._graphs[shapes].launch()

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._device.stream):
            raise self._failure("run the engine")

    def _fetch(self) -> Arrays:
        """The outputs, as copies of memory that the next call writes to."""
        filled: dict[str, tuple[Buffer, tuple[int, ...], Any]] = {}
        for spec in self._outputs:
            buffer, shape = self._buffers[spec.name], self._allocators[spec.name].shape
            filled[spec.name] = buffer, shape, _native(spec.dtype)
            if self._engine.get_tensor_location(spec.name) != self._trt.TensorLocation.HOST:
                self._device.download(buffer, _bytes(shape, spec.dtype))
        self._device.wait()
        return {name: buffer.view(shape, dtype).copy() for name, (buffer, shape, dtype) in filled.items()}

    # ----------------------------------------------------------------------------------- the end

    def _forget_graphs(self) -> None:
        for graph in (self._graphs or {}).values():
            graph.free()
        if self._graphs:
            self._graphs.clear()

    def close(self) -> None:
        """Release the GPU's memory, and keep what was compiled where a runtime cache was asked for."""
        self._device.wait()
        self._cleanup.close()


class _RuntimeCache:
    """A file with what TensorRT-RTX compiled on this GPU. One of another GPU or version is written anew."""

    def __init__(self, file: Path, config: rtx.IRuntimeConfig) -> None:
        self._file = file
        self._cache: rtx.IRuntimeCache = config.create_runtime_cache()
        if file.is_file():
            self._cache.deserialize(file.read_bytes())
        config.set_runtime_cache(self._cache)

    def save(self) -> None:
        compiled: Any = self._cache.serialize()
        self._file.write_bytes(compiled)


def _native(dtype: str) -> Any:
    import numpy as np

    if dtype == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(dtype)


def _bytes(shape: Sequence[int], dtype: str) -> int:
    return math.prod(shape) * int(_native(dtype).itemsize)
