"""What the manifest says of an ONNX model: what a stranger's manifest is checked against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from modelexport.contract import Check, Count

#: entries with which a quantized graph is computed as it is written. Without the first, ONNX Runtime (1.31) puts
#: its own kernels in place of what it takes for a quantized operator, which compute nonsense where scales are
#: float16; without the second, it drops a Relu before a QuantizeLinear to float8, and fails at a Clip.
AS_WRITTEN = {
    "session.disable_quant_qdq": "1",
    "optimization.disable_specified_optimizers": "ClipQuantRewrite;ReluQuantRewrite",
}


def _known(entries: Mapping[str, str]) -> bool:
    return entries.items() <= AS_WRITTEN.items()


#: session entries: ONNX Runtime knows others that name files to read, and to write
Entries = Annotated[
    Mapping[str, str],
    Check(" and ".join(f"{key}={value}" for key, value in AS_WRITTEN.items()) + " alone", _known),
]


@dataclass(frozen=True)
class Details:
    """`session` and `rounded` are what a session reads, the rest is for people.

    `session` holds entries of ONNX Runtime's session configuration, `rounded` is the dtype whose roundings are
    simulated here; of an optimized model, `ratios` are each candidate's latencies relative to the model before.
    """

    opset: Count | None = None
    ir_version: Count | None = None
    operators: Mapping[str, Count] = field(default_factory=dict)
    session: Entries = field(default_factory=dict)
    rounded: Literal["float16", "bfloat16"] | None = None
    kept_in_float32: Mapping[str, str] = field(default_factory=dict)
    kept: str | None = None
    ratios: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    fusions: Mapping[str, Count] = field(default_factory=dict)
    operators_before: Mapping[str, Count] = field(default_factory=dict)
    size_before: Count | None = None
    size: Count | None = None
    target_device: Literal["cpu", "cuda"] = "cpu"
