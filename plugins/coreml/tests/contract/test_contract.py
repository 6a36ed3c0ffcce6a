"""The Core ML target keeps the contract of every target."""

from modelexport.testing import Quirks, TargetContract


class TestCoreML(TargetContract):
    target = "coreml"
    quirks = Quirks(unsupported={"control_flow": "coremltools converts no torch.cond from torch.export"})
