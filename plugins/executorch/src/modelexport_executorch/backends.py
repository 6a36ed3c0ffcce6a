"""The delegates that a program can be lowered to ahead of time, and what each takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from modelexport.contract import suggest
from modelexport.errors import ConversionError, OptionError, first_line
from modelexport.toolkit import importable


@dataclass(frozen=True)
class Backend:
    """A delegate: where its partitioner is, what makes one, and the modules that lowering to it takes."""

    module: str
    maker: str
    needs: tuple[str, ...] = ()

    def make(self) -> Any:
        return getattr(import_module(self.module), self.maker)()


#: what ExecuTorch's wheel lowers to on any machine
BACKENDS = {
    "xnnpack": Backend("modelexport_executorch.xnnpack", "partitioner"),
    "coreml": Backend(
        "executorch.backends.apple.coreml.partition.coreml_partitioner", "CoreMLPartitioner", ("coremltools",)
    ),
    "vulkan": Backend("executorch.backends.vulkan.partitioner.vulkan_partitioner", "VulkanPartitioner"),
    "webgpu": Backend("executorch.backends.webgpu.partitioner.partitioner", "WebGPUPartitioner"),
    "native": Backend("executorch.backends.native.partitioner", "NativePartitioner"),
}

#: no delegate: ExecuTorch's own kernels compute
PORTABLE = "portable"

#: delegates that take more than the wheel → what that is
ELSEWHERE = {
    "openvino": "OpenVINO before 2026 (pip install 'executorch[openvino]' in an environment of its own); "
    "with OpenVINO 2026 running such a program takes the process down",
    "ethos-u": "tosa_serializer and Vela (pip install 'executorch[ethos-u]' in an environment of its own)",
    "cortex-m": "Arm's toolchain, from ExecuTorch's source tree",
    "qnn": "Qualcomm's AI Engine Direct SDK, and a chip to compile for",
    "mediatek": "MediaTek's NeuroPilot SDK (mtk_converter)",
    "samsung": "Samsung's Exynos AI LiteCore SDK",
    "nxp": "NXP's eIQ Neutron SDK",
    "cadence": "Cadence's Xtensa toolchain, from ExecuTorch's source tree",
    "mps": "macOS, and ExecuTorch built there with its MPS backend",
    "mlx": "macOS on Apple Silicon, and ExecuTorch built there with its MLX backend",
    "cuda": "an NVIDIA GPU, with triton to compile for it",
}


def partitioners(names: Sequence[str]) -> list[Any]:
    """ExecuTorch's partitioners for `names`, in that order; `portable` has none.

    Raises OptionError for a name that there isn't, ConversionError for one that takes what is not here.
    """
    return [BACKENDS[name].make() for name in checked(names)]


def checked(names: Sequence[str]) -> list[str]:
    """The delegates among `names`; see `partitioners`."""
    for name in names:
        if name in ELSEWHERE:
            raise ConversionError(
                f"backend {name} can't be lowered to here: it takes {ELSEWHERE[name]}",
                f"-k backend= takes {', '.join(_KNOWN)}; several in order of preference",
            )
        if name not in _KNOWN:
            raise OptionError(f"there is no backend {name!r}", suggest(name, [*_KNOWN, *ELSEWHERE]))
        missing = [m for m in BACKENDS[name].needs if not importable(m)] if name in BACKENDS else []
        if missing:
            raise ConversionError(f"lowering to {name} takes {missing[0]}", f"pip install {missing[0]}")
    return [name for name in dict.fromkeys(names) if name != PORTABLE]


_KNOWN = [*BACKENDS, PORTABLE]


def failure(names: Sequence[str], error: BaseException) -> str:
    """What to say of an error in lowering."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    return f"ExecuTorch can't lower the model for {', '.join(names)}: {type(root).__name__}: {first_line(root)}"
