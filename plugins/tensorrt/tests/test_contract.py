"""The TensorRT target keeps the contract of every target, as far as a machine without a GPU shows it."""

from modelexport.testing import TargetContract


class TestTensorRT(TargetContract):
    target = "tensorrt"
