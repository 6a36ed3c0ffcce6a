"""The TorchScript target keeps the contract of every target."""

from modelexport.testing import Quirks, TargetContract


class TestTorchScript(TargetContract):
    target = "torchscript"
    quirks = Quirks(unsupported={"control_flow": "PyTorch can neither trace nor script torch.cond"})
