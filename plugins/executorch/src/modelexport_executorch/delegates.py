"""The delegates that a program can be lowered to ahead of time, and what each takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from modelexport.contract import suggest
from modelexport.errors import OptionError
from modelexport.toolkit import importable, without


@dataclass(frozen=True)
class Delegate:
    """Where a delegate's partitioner is and what makes one, and the modules that lowering to it takes.

    `hides` names what importing it would import where it is installed, for seconds and for nothing.
    """

    module: str
    maker: str
    needs: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()

    def partitioner(self) -> Any:
        """ExecuTorch's partitioner, which finds what the delegate can take of a program."""
        with without(*self.hides):
            module = import_module(self.module)
        return getattr(module, self.maker)()


#: what ExecuTorch's wheel lowers to on any machine
DELEGATES = {
    "xnnpack": Delegate("modelexport_executorch.xnnpack", "partitioner"),
    "coreml": Delegate(
        "executorch.backends.apple.coreml.partition.coreml_partitioner",
        "CoreMLPartitioner",
        ("coremltools",),
        ("tensorflow", "sklearn", "xgboost"),
    ),
    "vulkan": Delegate("executorch.backends.vulkan.partitioner.vulkan_partitioner", "VulkanPartitioner"),
    "webgpu": Delegate("executorch.backends.webgpu.partitioner.partitioner", "WebGPUPartitioner"),
    "native": Delegate("executorch.backends.native.partitioner", "NativePartitioner"),
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

_NAMES = (*DELEGATES, PORTABLE)


def check(names: Sequence[str]) -> None:
    """Raise OptionError for the first of `names` that is no delegate, or one that takes what is not here."""
    for name in names:
        if name in ELSEWHERE:
            raise OptionError(
                f"backend {name} can't be lowered to here: it takes {ELSEWHERE[name]}",
                f"-k backend= takes {', '.join(_NAMES)}; several in order of preference",
            )
        if name not in _NAMES:
            raise OptionError(f"there is no backend {name!r}", suggest(name, [*_NAMES, *ELSEWHERE]))
        needs = DELEGATES[name].needs if name in DELEGATES else ()
        if missing := [module for module in needs if not importable(module)]:
            raise OptionError(f"lowering to {name} takes {missing[0]}", f"pip install {missing[0]}")


def partitioners(names: Sequence[str]) -> list[Any]:
    """ExecuTorch's partitioners for `names`, each once and in that order; `portable` has none."""
    return [DELEGATES[name].partitioner() for name in dict.fromkeys(names) if name != PORTABLE]


def failure(names: Sequence[str]) -> str:
    """What to say where lowering for `names` fails."""
    return f"ExecuTorch can't lower the model for {', '.join(names)}"
