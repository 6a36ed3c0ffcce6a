"""What is wrong with options alone is said before any work, and without importing a toolchain."""

import modelexport
import pytest
from modelexport.errors import OptionError
from modelexport_executorch import ExportOptions, QuantizeOptions, RunOptions, delegates


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backend": ("vulcan",)}, r"no backend 'vulcan'.*did you mean 'vulkan'"),
        (
            {"backend": ("xnnpack", "openvino")},
            r"openvino can't be lowered to here: it takes OpenVINO before 2026",
        ),
        ({"backend": ("qnn",)}, r"qnn.*Qualcomm.*-k backend= takes xnnpack, coreml"),
        ({"bound": 0}, "bound=0 makes no sense"),
        ({"custom_kernels": ("foo",)}, "custom-kernels=foo names no operator"),
        ({"custom_kernels": ("aten::add.out", "my::op out")}, "custom-kernels=my::op out names no operator"),
    ],
)
def test_exports(options, said):
    with pytest.raises(OptionError, match=said):
        ExportOptions(**options)


def test_a_delegate_whose_package_is_missing(monkeypatch):
    monkeypatch.setattr(delegates, "importable", lambda module: module != "coremltools")
    with pytest.raises(OptionError, match=r"lowering to coreml takes coremltools.*pip install coremltools"):
        ExportOptions(backend=("coreml",))
    assert ExportOptions(backend=("xnnpack", "portable")).bound is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "static", "bits": 4}, r"no static 4-bit operators.*mode=dynamic"),
        ({"bits": 4, "group_size": 20}, "groups of 20 are none of XNNPACK's"),
        ({"group_size": 0}, "groups of 0"),
    ],
)
def test_quantization(options, said):
    with pytest.raises(OptionError, match=said):
        QuantizeOptions(**options)


def test_running():
    with pytest.raises(OptionError, match="threads=-1 makes no sense"):
        RunOptions(threads=-1)


def test_it_comes_before_the_model():
    with pytest.raises(OptionError, match="vulcan"):
        modelexport.export("nowhere.py:net", "executorch", options={"backend": "vulcan"})
