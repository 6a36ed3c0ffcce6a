"""A CUDA and a TensorRT that are played by this machine's memory and ONNX Runtime.

Whatever is asked of CUDA is asked of the real bindings too, which refuse it for want of a driver, and would raise
for arguments that they don't take.
"""

import ctypes
import itertools
from types import SimpleNamespace

import numpy as np
import tensorrt_rtx as trt


class Cuda:
    """CUDA's runtime in host memory; events take as long as there were calls between them."""

    def __init__(self, real):
        self.real, self.memory, self.calls, self.recording, self.handles = real, {}, [], None, itertools.count(1)
        for name in ("cudaMemcpyKind", "cudaStreamCaptureMode", "cudaGetErrorString"):
            setattr(self, name, getattr(real, name))

    def __getattr__(self, name):
        act = getattr(self, "_" + name)

        def call(*arguments):
            self.calls.append(name)
            given = [a if not isinstance(a, Handle) else a.real(self.real) for a in arguments]
            (error, *_) = getattr(self.real, name)(*given)
            assert int(error) in (34, 35, 100), f"{name}: {error}"
            return (0, *act(*arguments))

        return call

    def _allocate(self, size):
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return (ctypes.addressof(block),)

    _cudaMalloc = _cudaMallocHost = _allocate

    def _cudaFree(self, address):
        del self.memory[address]
        return ()

    _cudaFreeHost = _cudaFree

    def _cudaMemcpyAsync(self, to, source, size, kind, stream):
        ctypes.memmove(to, source, size)
        return ()

    def _make(kind):
        return lambda self: (Handle(kind, next(self.handles)),)

    _cudaStreamCreate, _cudaEventCreate = _make("cudaStream_t"), _make("cudaEvent_t")

    def _nothing(self, *arguments):
        return ()

    _cudaSetDevice = _cudaStreamDestroy = _cudaStreamSynchronize = _cudaEventRecord = _nothing
    _cudaEventSynchronize = _cudaEventDestroy = _cudaGraphDestroy = _cudaGraphExecDestroy = _nothing

    def _cudaEventElapsedTime(self, start, end):
        return (0.25,)

    def _cudaStreamBeginCapture(self, stream, mode):
        self.recording = []
        return ()

    def _cudaStreamEndCapture(self, stream):
        graph, self.recording = Handle("cudaGraph_t", next(self.handles)), None
        return (graph,)

    def _cudaGraphInstantiate(self, graph, flags):
        return (Handle("cudaGraphExec_t", next(self.handles)),)

    def _cudaGraphLaunch(self, graph, stream):
        self.context.execute_async_v3(0)
        return ()


class Handle(int):
    def __new__(cls, kind, value):
        self = super().__new__(cls, value)
        self.kind = kind
        return self

    def real(self, cuda):
        return getattr(cuda, self.kind)(int(self))


class Context:
    """An execution context that computes with ONNX Runtime on the ONNX model, in CUDA's memory."""

    def __init__(self, onnx, cuda):
        import onnxruntime

        self.runtime, self.cuda = onnxruntime.InferenceSession(onnx), cuda
        self.shapes, self.addresses, self.profiles, self.runs = {}, {}, [], 0
        cuda.context = self

    def set_optimization_profile_async(self, number, stream):
        self.profiles.append(number)
        return True

    def set_input_shape(self, name, shape):
        assert type(shape) is tuple
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def infer_shapes(self):
        self.outputs = self._compute()
        return []

    def get_tensor_shape(self, name):
        return trt.Dims(self.shapes.get(name) or self.outputs[name].shape)

    def execute_async_v3(self, stream):
        if self.cuda.recording is not None:
            return True
        self.runs += 1
        for name, array in self._compute().items():
            ctypes.memmove(self.addresses[name], array.ctypes.data, array.nbytes)
        return True

    def _compute(self):
        kinds = {"tensor(int64)": np.int64, "tensor(float)": np.float32}
        feeds = {}
        for value in self.runtime.get_inputs():
            array = np.empty(self.shapes[value.name], kinds[value.type])
            ctypes.memmove(array.ctypes.data, self.addresses[value.name], array.nbytes)
            feeds[value.name] = array
        names = [value.name for value in self.runtime.get_outputs()]
        return dict(zip(names, self.runtime.run(names, feeds), strict=True))


class Engine:
    streamable_weights_size = 0

    def __init__(self, onnx, cuda):
        self.context = Context(onnx, cuda)
        self.config = None

    def create_runtime_config(self):
        cache = SimpleNamespace(deserialize=lambda blob: True, serialize=lambda: b"compiled")
        self.config = SimpleNamespace(create_runtime_cache=lambda: cache, set_runtime_cache=lambda cache: True)
        return self.config

    def create_execution_context(self, config=None):
        return self.context

    def get_tensor_location(self, name):
        return trt.TensorLocation.DEVICE
