"""The TensorRT target keeps the contract of every target, as far as a machine without a GPU shows it."""

from modelexport.testing import Quirks, TargetContract


class TestTensorRT(TargetContract):
    target = "tensorrt"
    ahead_of_time = "engines run on NVIDIA GPUs"
    quirks = Quirks(
        tests={
            "transforms_pass_the_gate": "it quantizes with ranges from real inputs, which specimens have none of"
        }
    )
