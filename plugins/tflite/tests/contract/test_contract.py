"""The TFLite target keeps the contract of every target."""

from modelexport.testing import Quirks, TargetContract


class TestTFLite(TargetContract):
    target = "tflite"
    quirks = Quirks(unsupported={"control_flow": "litert-torch lowers no torch.cond"})
