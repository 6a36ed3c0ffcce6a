"""The oldest systems that a model is to run on, and what they know of quantization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from modelexport.errors import OptionError

if TYPE_CHECKING:
    from . import QuantizeOptions

#: system → the version of Core ML's specification that came with it
VERSIONS: Mapping[str, int] = {"iOS15": 6, "iOS16": 7, "iOS17": 8, "iOS18": 9}


def check(options: QuantizeOptions, version: int, precision: str) -> None:
    """Raise OptionError for what models of a specification's `version`, computing in `precision`, don't have.

    iOS 18 (macOS 15) brought 4-bit integers, blocks, and a palette for each group of channels; iOS 17 (macOS 14)
    operators that quantize.
    """
    if options.mode == "linear" and options.bits == 4 and version < VERSIONS["iOS18"]:
        raise OptionError(
            "4-bit integers need iOS 18", "export with -k deployment-target=iOS18, or use -k mode=palettize"
        )
    if options.mode != "activations":
        return
    if version < VERSIONS["iOS17"]:
        raise OptionError("8-bit activations need iOS 17", "export with -k deployment-target=iOS17")
    if precision != "float16":
        raise OptionError(
            "8-bit activations are for what the Neural Engine computes, in float16",
            "export with -k compute-precision=float16",
        )
