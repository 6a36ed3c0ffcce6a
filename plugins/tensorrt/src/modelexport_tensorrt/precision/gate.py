"""A copy of a model on ONNX Runtime, against golden data: what goes into an engine is verified before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from modelexport.errors import ConversionError
from modelexport.toolkit import compare

if TYPE_CHECKING:
    from modelexport.contract import Comparison
    from modelexport.toolkit import GoldenCase


@dataclass(frozen=True)
class Verdict:
    """`precision` picks the budget; `worst` is the output that used most of its own."""

    precision: str
    verified: bool
    worst: Comparison | None = None
    cases: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def verify(
    model: Any,
    precision: str,
    cases: Sequence[GoldenCase],
    tolerance: Mapping[str, float] | None = None,
    *,
    raises: bool = True,
) -> Verdict:
    """Run the model on `cases`; with `raises`, a ConversionError where an output is over its budget."""
    from modelexport_onnx import session

    runtime = session.open_model(model, config=session.AS_WRITTEN)
    call = session.caller(runtime, [value.name for value in runtime.get_outputs()])
    compared = []
    for case in cases:
        got = call(case.inputs)
        for name, want in case.outputs.items():
            compared.append(replace(compare(name, got.get(name), want, precision, tolerance), case=case.name))
    worst = max(compared, key=lambda each: (not each.ok, each.used), default=None)
    passed = worst is not None and worst.ok
    if raises and worst is not None and not passed:
        raise ConversionError(
            f"in {precision} the ONNX model computes something else: {worst!s}",
            "choose another precision, or leave layers out",
        )
    return Verdict(precision, passed, worst, len(cases))
