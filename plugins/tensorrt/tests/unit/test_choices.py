"""Options are checked when they are made, before a model is loaded; and GPUs, for what they lack."""

import modelexport_tensorrt
import pytest
from modelexport import Source
from modelexport.errors import OptionError
from modelexport_tensorrt import ExportOptions, QuantizeOptions, RunOptions, flavours


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimization_level": 6}, "optimization-level=6 is out of range"),
        ({"optimization_level": -1}, "optimization-level=-1 is out of range"),
        ({"bound": 8, "profile": ("batch=1:2:4",)}, "bound= and profile= contradict each other"),
        ({"profile": ("batch=1:2",)}, "can't read the profile 'batch=1:2'"),
        ({"profile": ("batch=1:99:2",)}, "batch=1:99:2 is not in order"),
        ({"profile": ("x=1x8:2x4:3x9",)}, "x=8:4:9 is not in order"),
        ({"profile": ("x=1x8:2:3x9",)}, "the three shapes differ"),
        ({"profile": ("batch=1:2:4;=1:2:3",)}, "'=1:2:3' names no input or dim"),
        ({"timing_cache": "/gone/timings"}, "timing-cache=/gone/timings: there is no folder /gone"),
        ({"timing_cache": "/"}, "timing-cache=/ is no file"),
        ({"plugins": ("/nowhere.so",)}, "plugins=/nowhere.so: there is no such file"),
        ({"sm": ("auto", "sm86")}, "sm=auto,sm86: auto and current stand alone"),
        ({"sm": ("sm86", "turbo")}, "there is no GPU 'turbo'"),
        ({"sm": ("sm90",), "flavour": "tensorrt-rtx"}, "tensorrt-rtx builds for no sm90"),
        ({"dla": 0, "flavour": "tensorrt-rtx"}, "tensorrt-rtx has no dla"),
        ({"version_compatible": True, "flavour": "tensorrt-rtx"}, "tensorrt-rtx has no version-compatible"),
        ({"timing_cache": "timings", "flavour": "tensorrt-rtx"}, "tensorrt-rtx has no timing-cache"),
    ],
    ids=str,
)
def test_options_of_export_that_are_wrong_whatever_the_model_is(options, message):
    with pytest.raises(OptionError) as caught:
        ExportOptions(**options)
    assert message in caught.value.message


def test_what_only_the_machine_can_tell_is_left_to_it():
    assert ExportOptions(sm=("sm90",), timing_cache="timings").sm == ("sm90",)
    assert ExportOptions(sm=("current",), flavour="tensorrt", dla=0).dla == 0


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (RunOptions, {"device": -1}, "device=-1 makes no sense"),
        (RunOptions, {"plugins": ("/nowhere.so",)}, "plugins=/nowhere.so: there is no such file"),
        (RunOptions, {"runtime_cache": "/gone/cache"}, "runtime-cache=/gone/cache: there is no folder /gone"),
        (QuantizeOptions, {"mode": "fp8", "calibrator": "entropy"}, "entropy looks for ranges of 8-bit integers"),
        (QuantizeOptions, {"percentile": 0}, "percentile=0 makes no sense"),
    ],
    ids=str,
)
def test_options_of_other_verbs(kind, options, message):
    with pytest.raises(OptionError) as caught:
        kind(**options)
    assert message in caught.value.message


@pytest.mark.parametrize(("types", "sm", "oldest"), [("bfloat16", "sm75", 80), ("fp8", "sm86", 89)])
def test_types_that_a_gpu_lacks(types, sm, oldest):
    with pytest.raises(OptionError, match=f"{sm} has no {types}") as caught:
        flavours.resolve(flavours.RTX, ["sm120", sm], {"float32", types})
    assert f"sm{oldest} and later" in caught.value.hint


@pytest.mark.parametrize(
    ("precision", "sm", "oldest"), [("bf16", "sm75", 80), ("fp8", "sm86", 89), ("int4", "sm75", 80)]
)
def test_a_gpu_that_lacks_the_precision_asked_for_is_refused_without_the_model(precision, sm, oldest):
    with pytest.raises(OptionError, match=f"{sm} has no .*, which the model computes in") as caught:
        ExportOptions(precision=precision, sm=("sm120", sm))
    assert f"sm{oldest} and later" in caught.value.hint
    assert ExportOptions(precision=precision, sm=("sm120",)).precision == precision


def test_every_gpu_that_has_the_types_of_the_model_unless_some_are_named():
    assert flavours.resolve(flavours.RTX, ["auto"], {"float32"})[0] == "sm80"
    assert flavours.resolve(flavours.RTX, ["auto"], {"fp8"}) == ("sm89", "sm120", "sm121")
    assert flavours.resolve(flavours.RTX, [" SM89", "sm75", "sm89"], {"float16"}) == ("sm75", "sm89")
    assert flavours.resolve(flavours.FULL, ["auto"], {"float32"}) == ("current",)


# --------------------------------------------------------------------------------------- before any work


def checked(export=None, source=None, precision=None, calibrated=False, **more):
    options = more if export is None else {"export": ExportOptions(flavour="tensorrt-rtx", **export), **more}
    modelexport_tensorrt.mx_check(options, source, precision, calibrated)


@pytest.fixture
def rtx(monkeypatch):
    """TensorRT-RTX is here, and no GPU."""
    monkeypatch.setattr(flavours, "importable", lambda module: module == flavours.RTX.module)
    monkeypatch.setattr(flavours, "gpus", tuple)
    monkeypatch.setattr(flavours, "lacking", lambda: "no NVIDIA driver")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strip": True}, "strip=true takes a GPU"),
        ({"refit": True}, "refit=true takes a GPU"),
        ({"sm": ("current",)}, "sm=current is the GPU of this machine, which has none"),
    ],
    ids=str,
)
def test_what_this_machine_cannot_build(options, message, rtx):
    with pytest.raises(OptionError) as caught:
        checked(options)
    assert message in caught.value.message
    with pytest.raises(OptionError, match="flavour=tensorrt is not installed"):
        modelexport_tensorrt.mx_check({"export": ExportOptions(flavour="tensorrt")}, None, None, False)
    for lacking in ({"dla": 0}, {"timing_cache": "timings"}, {"version_compatible": True}):
        with pytest.raises(OptionError, match="tensorrt-rtx has no"):
            modelexport_tensorrt.mx_check({"export": ExportOptions(**lacking)}, None, None, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profile": ("gone=1:2:3",)}, "the model has no input or dim 'gone'"),
        ({"profile": ("batch=1:2:99",)}, "the model does not take batch=99"),
        ({"profile": ("batch=2:4:8",)}, "no profile takes batch=1"),
        ({"precision": "int8"}, "precision=int8: net.py:net is not quantized"),
    ],
    ids=str,
)
def test_what_the_model_is_not_like(options, message, rtx):
    source = Source(None, inputs=("x:float32[batch=1..8,3]",), ref="net.py:net")
    checked(options)
    with pytest.raises(OptionError) as caught:
        checked(options, source)
    assert message in caught.value.message
    checked({"profile": ("batch=1:4:8",), "precision": "int8"}, source, precision="int8")
    checked({"precision": "int8"}, Source(None, inputs=source.inputs, format="onnx"))


def test_a_quantization_takes_data_unless_it_is_of_weights_alone():
    for mode in ("int8", "fp8"):
        with pytest.raises(OptionError, match=f"{mode} takes the ranges of activations from data"):
            checked(quantize=QuantizeOptions(mode=mode))
        checked(quantize=QuantizeOptions(mode=mode), calibrated=True)
    checked(quantize=QuantizeOptions(mode="int4"))
