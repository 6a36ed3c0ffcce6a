"""TensorRT and TensorRT-RTX: two packages with one API.

TensorRT builds on the GPU that an engine is for, and measures kernels there. TensorRT-RTX builds for any list of
GPUs, on any machine, and compiles kernels where the engine runs.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from modelexport.errors import OptionError, TargetError
from modelexport.toolkit import importable

CURRENT, AUTO = "current", "auto"


@dataclass(frozen=True)
class Flavour:
    """One of the packages; `sms`: the GPUs that it builds for anywhere, none where it takes the GPU itself."""

    name: str
    module: str
    install: str
    sms: tuple[str, ...] = ()

    @property
    def ahead(self) -> bool:
        """Whether it builds for GPUs that are not here."""
        return bool(self.sms)

    def load(self) -> Any:
        """The Python package."""
        import importlib

        return importlib.import_module(self.module)


FULL = Flavour("tensorrt", "tensorrt", "pip install tensorrt")
RTX = Flavour(
    "tensorrt-rtx",
    "tensorrt_rtx",
    "pip install 'modelexport-tensorrt[rtx]'",
    ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121"),
)
BY_NAME = {flavour.name: flavour for flavour in (FULL, RTX)}

#: GPUs that compute in a type, from the oldest on; float32, float16 and int8 are in all of them, though
#: TensorRT-RTX gives sm75 int8 products only, and computes its convolutions in half. From NVIDIA's support matrix,
#: https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/getting-started/support-matrix.html, and the builder
OLDEST = {"bfloat16": 80, "int4": 80, "fp8": 89, "nvfp4": 100}

#: what `--precision` calls the types that a model computes in
PRECISIONS = {
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "int8": "int8",
    "fp8": "fp8",
    "int4": "int4",
}

#: the oldest that engines are for unless it is asked for: before, matrix products are in half precision only
_DEFAULT = 80


def installed() -> tuple[Flavour, ...]:
    """The packages that are here, or the one to install where there are none. Nothing is imported."""
    return tuple(each for each in BY_NAME.values() if importable(each.module)) or (RTX,)


def choose(asked: str) -> Flavour:
    """The flavour to build with. Raises OptionError where the one asked for isn't here."""
    here = [each for each in installed() if importable(each.module)]
    if asked != AUTO:
        if BY_NAME[asked] not in here:
            raise OptionError(f"flavour={asked} is not installed", BY_NAME[asked].install)
        return BY_NAME[asked]
    usable = [each for each in here if each.ahead or gpus()]
    if not usable:
        raise TargetError(
            f"TensorRT builds on the GPU that an engine is for, and here is none: {lacking()}", RTX.install
        )
    return usable[0]


def resolve(flavour: Flavour, asked: Sequence[str], types: set[str]) -> tuple[str, ...]:
    """The GPUs to build for, as `sm86`, oldest first; `current` stays as it is.

    `types` are those of the model's tensors. Raises OptionError for a GPU that the flavour doesn't build for, that
    isn't here, or that lacks one of the types.
    """
    check_names(asked)
    names = _named(asked)
    if names == [AUTO]:
        return _usual(flavour, types)
    if flavour.ahead:
        check_ahead(flavour, names)
    check_here(flavour, asked)
    check_types(asked, types)
    return tuple(sorted(names, key=_number))


def check_types(asked: Sequence[str], types: Collection[str]) -> None:
    """Raise OptionError for a GPU, named as such, that lacks one of `types`."""
    for name in _named(asked):
        if name in (AUTO, CURRENT):
            continue
        if short := sorted(each for each in types if _number(name) < OLDEST.get(each, 0)):
            raise OptionError(
                f"{name} has no {short[0]}, which the model computes in",
                f"leave {name} out (sm{OLDEST[short[0]]} and later have it), or choose another --precision",
            )


def check_names(asked: Sequence[str]) -> None:
    """Raise OptionError for a name that no GPU has, and for one that stands alone among others."""
    names = _named(asked)
    if len(names) > 1 and {AUTO, CURRENT} & set(names):
        raise OptionError(f"sm={','.join(names)}: auto and current stand alone", "list GPUs, such as sm=sm86,sm89")
    for name in names:
        known = name in (AUTO, CURRENT) or (name.startswith("sm") and name[2:].isdigit() and _number(name) >= 50)
        if not known:
            raise OptionError(f"there is no GPU {name!r}", f"{RTX.name} builds for {', '.join(RTX.sms)}")


def check_ahead(flavour: Flavour, asked: Sequence[str]) -> None:
    """Raise OptionError for a GPU that a flavour which builds ahead of time builds for nowhere."""
    for name in _named(asked):
        if name not in (AUTO, CURRENT, *flavour.sms):
            raise OptionError(
                f"{flavour.name} builds for no {name}",
                f"it builds for {', '.join(flavour.sms)}; "
                f"for {name}, -k flavour=tensorrt on a machine that has one",
            )


def check_here(flavour: Flavour, asked: Sequence[str]) -> None:
    """Raise OptionError for a GPU that the flavour builds for only where it is, and that isn't here."""
    for name in _named(asked):
        if name != AUTO:
            _check_here(flavour, name)


def _named(asked: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(name.strip().lower() for name in asked))


def _usual(flavour: Flavour, types: set[str]) -> tuple[str, ...]:
    """Every GPU that the model can run on: another one costs neither time nor size."""
    if not flavour.ahead:
        return (CURRENT,)
    least = max([_DEFAULT, *(OLDEST[each] for each in types & set(OLDEST))])
    return tuple(name for name in flavour.sms if _number(name) >= least)


def _check_here(flavour: Flavour, name: str) -> None:
    here = gpus()
    if name == CURRENT and not here:
        raise OptionError(
            f"sm={CURRENT} is the GPU of this machine, which has none: {lacking()}",
            "name GPUs: -k sm=sm86,sm89",
        )
    if not flavour.ahead and name not in (CURRENT, *here):
        raise OptionError(
            f"{flavour.name} builds for the GPU at hand, {', '.join(here) or lacking()}, and not for {name}",
            "leave out sm=, or give -k flavour=tensorrt-rtx",
        )


def _number(name: str) -> int:
    return int(name[2:]) if name[2:].isdigit() else 10**6


# --------------------------------------------------------------------------------------- this machine


def _driver() -> Any:
    """NVIDIA's driver library, None where there is none."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def lacking() -> str:
    """What this machine lacks to run an engine, in a few words; empty where it has it. Takes milliseconds."""
    driver = _driver()
    if driver is None:
        return "no NVIDIA driver"
    return "" if driver.cuInit(0) == 0 else "no NVIDIA GPU"


def without_bindings() -> str:
    """What is missing of CUDA's Python bindings, which only running takes; empty where they are installed."""
    return "" if importable("cuda.bindings") else "no cuda-bindings"


@cache
def gpus() -> tuple[str, ...]:
    """The GPUs of this machine, by number, each as `sm86`."""
    driver = _driver()
    count = ctypes.c_int()
    if driver is None or driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    return tuple(f"sm{_attribute(driver, 75, each)}{_attribute(driver, 76, each)}" for each in range(count.value))


def _attribute(driver: Any, which: int, device: int) -> int:
    """A device attribute: 75 is the major, 76 the minor number of the compute capability."""
    value = ctypes.c_int()
    driver.cuDeviceGetAttribute(ctypes.byref(value), which, device)
    return value.value
