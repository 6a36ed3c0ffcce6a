"""The toolchains that write and rewrite models, with what they say kept off the terminal.

They are imported where they are used; what they import on their way, and print, is theirs alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from modelexport.toolkit import quiet


@contextmanager
def exporting() -> Iterator[None]:
    """Around calls of torch.onnx, which logs what it does node by node."""
    with quiet("torch.onnx", "torch.onnx._internal.exporter._registration", "onnxscript", "onnx_ir"):
        yield


@contextmanager
def rewriting() -> Iterator[None]:
    """Around calls of the optimizers, and of onnx_ir, which they and large files go through."""
    with quiet("onnx", "onnxslim", "onnxscript", "onnx_ir", "onnxruntime.transformers", stdout=True):
        yield


@contextmanager
def quantizing() -> Iterator[None]:
    """Around calls of ONNX Runtime's quantizers, which log every node through the root logger."""
    with quiet("onnxruntime", all_loggers=True, stdout=True):
        yield
