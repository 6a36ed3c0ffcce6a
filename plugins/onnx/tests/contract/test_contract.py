"""The ONNX target keeps the contract of every target."""

from modelexport.testing import TargetContract


class TestOnnx(TargetContract):
    target = "onnx"
