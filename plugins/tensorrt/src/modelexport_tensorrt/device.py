"""A GPU: a stream, memory that stays, events and recorded launches, through CUDA's own Python bindings."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from modelexport.errors import CannotRunHere, RuntimeFailure

if TYPE_CHECKING:
    from modelexport.contract import Array

#: what CUDA says where no GPU can be had, by number: no driver, none that is new enough, no device
_ABSENT = (34, 35, 100, 101)


class Buffer:
    """Memory for one tensor, on the GPU and pinned on the host. It grows, and is used again."""

    def __init__(self, device: Device) -> None:
        self._gpu = device
        self.capacity = 0
        self.device = 0
        self.host = 0

    def reserve(self, size: int) -> bool:
        """Make room for `size` bytes, at least one. True where that moved it."""
        size = max(size, 1)
        if size <= self.capacity:
            return False
        self.free()
        self.device = int(self._gpu.call("cudaMalloc", size))
        self.host = int(self._gpu.call("cudaMallocHost", size))
        self.capacity = size
        return True

    def view(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """The host's memory as an array."""
        import numpy as np

        raw: Any = (ctypes.c_byte * self.capacity).from_address(self.host)
        array: Array = np.frombuffer(raw, np.uint8)[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
        return array

    def free(self) -> None:
        if self.device:
            self._gpu.call("cudaFree", self.device)
        if self.host:
            self._gpu.call("cudaFreeHost", self.host)
        self.capacity = self.device = self.host = 0


class Device:
    """One GPU by its number, with a stream of its own. Raises CannotRunHere where there is none."""

    def __init__(self, number: int) -> None:
        from cuda.bindings import runtime

        self._cuda: Any = runtime
        self.call("cudaSetDevice", number)
        self._stream = self.call("cudaStreamCreate")

    @property
    def stream(self) -> int:
        """The stream's handle, as TensorRT takes it."""
        return int(self._stream)

    def call(self, function: str, *arguments: Any) -> Any:
        """What a function of CUDA's runtime returns. Raises CannotRunHere without a GPU, else RuntimeFailure."""
        error, *values = getattr(self._cuda, function)(*arguments)
        number = int(error)
        if number:
            text = self._cuda.cudaGetErrorString(error)[1].decode()
            if number in _ABSENT:
                raise CannotRunHere(text, "run it on a machine with an NVIDIA GPU and its driver")
            raise RuntimeFailure(
                f"CUDA failed in {function}: {text}", "is the GPU's memory full, or in use by others?"
            )
        return values[0] if len(values) == 1 else tuple(values)

    def upload(self, buffer: Buffer, size: int) -> None:
        """Copy `size` bytes from the host's memory of a buffer to the GPU's."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call("cudaMemcpyAsync", buffer.device, buffer.host, size, kind, self._stream)

    def download(self, buffer: Buffer, size: int) -> None:
        """Copy `size` bytes from the GPU's memory of a buffer to the host's."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", buffer.host, buffer.device, size, kind, self._stream)

    def wait(self) -> None:
        """Until all that was asked of the stream is done."""
        self.call("cudaStreamSynchronize", self._stream)

    def milliseconds(self, launch: Callable[[], None]) -> float:
        """What the GPU takes for what `launch` asks of the stream."""
        start, end = self.call("cudaEventCreate"), self.call("cudaEventCreate")
        try:
            self.call("cudaEventRecord", start, self._stream)
            launch()
            self.call("cudaEventRecord", end, self._stream)
            self.call("cudaEventSynchronize", end)
            return float(self.call("cudaEventElapsedTime", start, end))
        finally:
            self.call("cudaEventDestroy", start)
            self.call("cudaEventDestroy", end)

    def record(self, launch: Callable[[], None]) -> Graph:
        """What `launch` asks of the stream, as one graph. It was called before: nothing is compiled in it."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("cudaStreamBeginCapture", self._stream, mode)
        try:
            launch()
        finally:
            graph = self.call("cudaStreamEndCapture", self._stream)
        try:
            return Graph(self, self.call("cudaGraphInstantiate", graph, 0))
        finally:
            self.call("cudaGraphDestroy", graph)

    def close(self) -> None:
        self.call("cudaStreamDestroy", self._stream)


class Graph:
    """Launches that were recorded, to be replayed with one call."""

    def __init__(self, device: Device, handle: Any) -> None:
        self._device, self._handle = device, handle

    def launch(self) -> None:
        self._device.call("cudaGraphLaunch", self._handle, self._device._stream)

    def free(self) -> None:
        self._device.call("cudaGraphExecDestroy", self._handle)
