"""What the processor here multiplies 8-bit integers with: that decides which int8 is fast and which saturates."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Literal

Kind = Literal["x86-vnni", "x86", "arm64"]

_ARM = ("arm64", "aarch64")
_VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}


def kind() -> Kind:
    """`x86-vnni` has dot products of bytes; plain `x86` adds pairs of products in 16 bits, which overflow.

    Where the flags can't be read (anything but Linux on x86) the answer is the cautious one.
    """
    if platform.machine().lower() in _ARM:
        return "arm64"
    return "x86-vnni" if flags() & _VNNI else "x86"


def flags() -> set[str]:
    """The processor's features as Linux names them; empty elsewhere."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return set()
    lines = info.read_text(errors="replace").splitlines()
    return set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
