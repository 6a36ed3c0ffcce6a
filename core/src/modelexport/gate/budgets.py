"""The budget of each precision, and what the user's --tolerance makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from ..contract.artifacts import Artifact
from ..contract.parity import Budget
from ..errors import OptionError

#: by precision, the looser below; of the artifact's and a floating-point output's own, the looser applies
BUDGETS = {
    "float64": Budget(atol=1e-8, rtol=1e-7, noise=1e-8, cosine=0.999999),
    "float32": Budget(atol=1e-5, rtol=1e-4, noise=2e-5, cosine=0.9999),
    "float16": Budget(atol=1e-3, rtol=1e-2, noise=5e-3, cosine=0.999),
    "bfloat16": Budget(atol=1e-2, rtol=5e-2, noise=3e-2, cosine=0.99),
    "fp8": Budget(atol=0.05, rtol=0.1, noise=1.0, cosine=0.95, equal=0.95),
    "int8": Budget(atol=0.05, rtol=0.1, noise=1.0, cosine=0.93, equal=0.95),
    "nvfp4": Budget(atol=0.1, rtol=0.2, noise=1.0, cosine=0.85, equal=0.9),
    "int4": Budget(atol=0.1, rtol=0.2, noise=1.0, cosine=0.85, equal=0.9),
}
_ORDER = list(BUDGETS)


def budget_for(precision: str, dtype: str, tolerance: Mapping[str, float] | None = None) -> Budget:
    """The budget for an output of `dtype` in an artifact of `precision`, with the user's `tolerance` on top."""
    dtype = {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)
    own = (dtype,) if "float" in dtype else ()  # int8 is the dtype of an output too, and says nothing about it
    known = [name for name in (precision, *own) if name in BUDGETS]
    budget = BUDGETS[max(known, key=_ORDER.index, default="float32")]
    return replace(budget, **tolerance) if tolerance else budget


def gated_alike(artifact: Artifact, tolerance: Mapping[str, float]) -> bool:
    """Whether the gate of `artifact` passed, with the budgets that `tolerance` gives now."""
    if artifact.parity.verified is False:
        return False
    kept = {spec.name: {"bfloat16": "float32"}.get(spec.dtype, spec.dtype) for spec in artifact.outputs}
    return all(
        then.budget == budget_for(artifact.precision, kept.get(then.name, ""), tolerance)
        for then in artifact.parity.outputs
    )


def read_tolerance(given: Mapping[str, float] | str | None) -> dict[str, float]:
    """The fields of a budget that the user sets: `1e-3` (atol and rtol), `atol=1e-4,cosine=0.999`, or by name.

    Raises OptionError for what can't be read, and for a value that no budget can have.
    """
    values = _parsed(given) if isinstance(given, str) else dict(given or {})
    for name, value in values.items():
        if name not in _RANGES:
            raise OptionError(
                f"can't use --tolerance {given!r}: there is no {name!r}", f"there are {', '.join(_RANGES)}"
            )
        low, high = _RANGES[name]
        if not low <= value <= high or not math.isfinite(value):
            end = "on, and is finite" if math.isinf(high) else f"to {high:g}"
            raise OptionError(
                f"can't use --tolerance {given!r}: {name}={value:g} is out of range",
                f"{name} goes from {low:g} {end}",
            )
    return values


#: what each field of a budget may be
_RANGES = {
    "atol": (0.0, math.inf),
    "rtol": (0.0, math.inf),
    "noise": (0.0, math.inf),
    "cosine": (-1.0, 1.0),
    "equal": (0.0, 1.0),
}


def _parsed(text: str) -> dict[str, float]:
    named = [part.partition("=") for part in text.split(",")] if "=" in text else []
    pairs = [(name.strip(), value) for name, _, value in named] or [("atol", text), ("rtol", text)]
    if len(dict(pairs)) < len(pairs):
        raise OptionError(f"can't use --tolerance {text!r}: it says one thing twice", "give it once")
    try:
        return {name: float(value) for name, value in pairs}
    except ValueError as error:
        raise OptionError(f"can't read --tolerance {text!r}", "write 1e-3, or atol=1e-4,rtol=1e-3") from error
