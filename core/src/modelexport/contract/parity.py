"""What the parity gate found, and the budgets that it measured with. See docs/explanation/parity.md.

For an output `y` and its reference `r`, an element is within budget when
`|y - r| <= atol + rtol * |r| + noise * max|r|`: `noise` is the rounding that a tensor of that magnitude
carries in the dtype, whatever the size of the single element. Integers and booleans must be equal, but for the
share that the budget of a quantized model allows to differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

#: the precisions that an artifact may have; the gate has a budget for each
PRECISIONS = ("float64", "float32", "float16", "bfloat16", "fp8", "int8", "nvfp4", "int4")

#: True, False, or "structure": the files are right as far as this machine, which can't run them, can tell
Verified = bool | Literal["structure"]


@dataclass(frozen=True)
class Budget:
    """How far an output may be from its reference, by the formula above.

    `cosine` is the least cosine similarity allowed, and `equal` the least share of equal elements in an output of
    integers or booleans.
    """

    atol: float
    rtol: float
    noise: float
    cosine: float
    equal: float = 1.0


@dataclass(frozen=True)
class Comparison:
    """One output beside its reference, in the case in which it used up the most of its budget.

    `max_rel` is relative to the largest magnitude in the reference; `top1` the share of rows whose largest element
    is the same one, None where rows make no sense; `used` the share of the budget that the worst element took,
    above 1 where it is over. `problem` says in words what no figure can: another shape, NaN, a missing output.
    """

    name: str
    budget: Budget
    ok: bool = True
    max_abs: float = 0.0
    max_rel: float = 0.0
    cosine: float = 1.0
    top1: float | None = None
    used: float = 0.0
    problem: str = ""
    case: str = ""

    def __str__(self) -> str:
        what = f"output {self.name!r} in case {self.case!r}"
        if self.problem:
            return f"{what}: {self.problem}"
        budget = self.budget
        return (
            f"{what}: max abs difference {self.max_abs:.3g} (relative {self.max_rel:.3g}, cosine "
            f"{self.cosine:.6f}), {self.used:.3g} × the budget of atol {budget.atol:g}, rtol {budget.rtol:g}, "
            f"noise {budget.noise:g}, cosine {budget.cosine:g}"
        )


@dataclass(frozen=True)
class Parity:
    """What the parity gate found.

    `verified` is True, False, or "structure"; `reason` says why it is not True. `outputs` holds the worst
    comparison of each output, `cases` the names of the cases, and `skipped` those that were left out, with why.
    """

    verified: Verified
    reason: str = ""
    outputs: tuple[Comparison, ...] = ()
    cases: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


#: what is said of an artifact before the gate has seen it
UNVERIFIED = Parity(False, "not verified")
