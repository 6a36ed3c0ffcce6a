"""What TensorRT said, in words that help."""

from modelexport_tensorrt import operators


def test_the_first_message_is_told_and_not_what_follows_for_want_of_a_driver():
    said = [
        "CUDA initialization failure with error: 35",
        "IBuilder::buildSerializedNetwork: Error Code 4: Usage Error (x is too small. In validate at /a.cpp:7)",
        "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (… (cudaError 35: CUDA driver …))",
    ]
    assert operators.failure(said).message == "TensorRT can't build the engine: x is too small"
    assert "sm86 has no fp8_e4m3" in operators.failure(
        ["… Cannot compile for target(s) sm86, because the model contains HW-specific datatypes: fp8_e4m3. In …"]
    ).message  # fmt: skip
