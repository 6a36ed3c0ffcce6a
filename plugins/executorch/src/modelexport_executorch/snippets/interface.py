"""An artifact's inputs and outputs as a language's API takes them."""

from __future__ import annotations

from collections.abc import Container

from modelexport.contract import Artifact
from modelexport.errors import ConversionError
from modelexport.toolkit import Signature, signature

from ..backend import QUANTIZED


def interface(artifact: Artifact, language: str, dtypes: Container[str]) -> Signature:
    """The artifact's signature, with dims bounded as its memory plan is.

    Raises ConversionError for an input or output that is none of `dtypes`, those that the language's API has.
    """
    sides = signature(artifact, artifact.details.get("bounds", {}))
    for value in (*sides.inputs, *sides.outputs):
        if value.dtype not in dtypes:
            raise ConversionError(
                f"ExecuTorch's {language} API has no tensors of {value.dtype}, which {value.name!r} is",
                "take and return float32, int32 or int64; or use --snippet cpp",
            )
    return sides


def calls_quantized_kernels(artifact: Artifact) -> bool:
    """Whether the program must be linked with ExecuTorch's library of quantized kernels."""
    return any(name.startswith(QUANTIZED) for name in artifact.details.get("kernels", ()))
