"""Options are checked when they are made, before a model is loaded."""

import pytest
from modelexport.errors import OptionError
from modelexport_onnx import ExportOptions, QuantizeOptions, RunOptions, mx_check

FP8 = {"mode": "fp8", "preset": "tensorrt"}


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"percentile": 0}, "percentile=0 makes no sense", "99.99"),
        ({"percentile": 101.0}, "percentile=101 makes no sense", "99.99"),
        ({"mode": "weight-only", "block_size": 48}, "there are no blocks of 48", "16, 32, 64, 128, 256"),
        ({"preset": "tensorrt", "mode": "weight-only", "bits": 4, "block_size": 32}, "no blocks of 32", "64, 128"),
        ({"preset": "tensorrt", "mode": "weight-only"}, "TensorRT has no weights in blocks of 8 bits", "bits=4"),
        ({"preset": "tensorrt", "mode": "dynamic"}, "TensorRT takes no dynamic int8", "preset tensorrt is static"),
        ({"mode": "fp8"}, "mode fp8 is for TensorRT", "preset=tensorrt"),
        ({"mode": "bfloat16"}, "mode bfloat16 is for TensorRT", "preset=tensorrt"),
        ({"activations": "fp16"}, "activations=fp16 is for TensorRT", "preset=tensorrt"),
        ({**FP8, "calibrator": "entropy"}, "calibrator=entropy looks for ranges of 8-bit", "minmax or percentile"),
        ({**FP8, "activation_type": "int8"}, "mode fp8 has no types of integers", "activation-type"),
        ({"mode": "float16", "exclude": ("head",)}, "mode float16 takes no op-types or exclude", "mx optimize"),
        ({"mode": "float16", "op_types": ("Conv",)}, "mode float16 takes no op-types or exclude", "mx optimize"),
        ({"mode": "dynamic", "activation_type": "int8"}, "dynamic quantization has uint8 activations", "leave"),
        ({"mode": "dynamic", "symmetric": True}, "dynamic quantization has uint8 activations", "leave"),
    ],
    ids=str,
)
def test_options_of_quantize_that_do_not_go_together(options, message, hint):
    with pytest.raises(OptionError) as caught:
        QuantizeOptions(**options)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "options",
    [
        {"preset": "tensorrt", "mode": mode, **more}
        for mode, more in {
            "auto": {}, "static": {"activations": "fp16"}, "float16": {}, "bfloat16": {},
            "fp8": {"calibrator": "percentile"}, "weight-only": {"bits": 4, "block_size": 64},
        }.items()
    ],
    ids=lambda options: options["mode"],
)  # fmt: skip
def test_what_tensorrt_takes(options):
    assert QuantizeOptions(**options).preset == "tensorrt"


@pytest.mark.parametrize(("opset", "nearest"), [(17, 18), (26, 25)])
def test_opsets_that_are_not_written(opset, nearest):
    with pytest.raises(OptionError, match=f"opset {opset} can't be written: torch.onnx writes 18 to 25") as caught:
        ExportOptions(opset=opset)
    assert f"opset={nearest}" in caught.value.hint


def test_a_library_of_operators_that_is_not_there():
    with pytest.raises(OptionError, match=r"custom-ops=/nowhere/ops\.so: there is no such file"):
        RunOptions(custom_ops="/nowhere/ops.so")
    assert RunOptions(custom_ops="libops.so").custom_ops == "libops.so"  # the loader looks for it
    with pytest.raises(OptionError, match="threads=-1"):
        RunOptions(threads=-1)


@pytest.mark.parametrize(
    "options", [{"mode": "static"}, FP8, {"preset": "tensorrt"}, {"preset": "tensorrt", "mode": "static"}], ids=str
)
def test_ranges_of_activations_take_data(options):
    with pytest.raises(OptionError, match="takes the ranges of activations from data"):
        mx_check({"quantize": QuantizeOptions(**options)}, calibrated=False)
    mx_check({"quantize": QuantizeOptions(**options)}, calibrated=True)


@pytest.mark.parametrize("mode", ["auto", "dynamic", "weight-only", "float16"])
def test_other_modes_do_without_data(mode):
    mx_check({"export": ExportOptions(), "quantize": QuantizeOptions(mode=mode)}, calibrated=False)
