"""The ExecuTorch target keeps the contract of every target."""

from modelexport.testing import TargetContract


class TestExecuTorch(TargetContract):
    target = "executorch"
