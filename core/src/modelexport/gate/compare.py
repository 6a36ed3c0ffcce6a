"""Compare a session's answers with the reference: every case, both calls, every output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..contract.parity import Budget, Comparison
from ..contract.tensors import cast
from ..errors import MxError, RuntimeFailure, first_line
from .budgets import BUDGETS, budget_for

if TYPE_CHECKING:
    from ..contract.sessions import Session
    from ..contract.tensors import Array, Arrays
    from .golden import GoldenCase


#: what `Comparison.used` says of an output that no figure describes: it sorts behind every other
UNMEASURED = 1e9


def compare_all(
    session: Session, cases: Sequence[GoldenCase], precision: str, tolerance: Mapping[str, float]
) -> list[Comparison]:
    """The worst comparison of each output over all cases and both calls.

    A case is compared after the next one ran: a session that hands out its own buffers, which the next call
    overwrites, is caught as well.
    """
    worst: dict[str, Comparison] = {}
    held: tuple[GoldenCase, tuple[Arrays, Arrays]] | None = None
    for case in cases:
        got = _call_twice(session, case)
        if held is not None:
            _keep_worst(worst, *held, precision, tolerance)
        held = case, got
    if held is not None:
        _keep_worst(worst, *held, precision, tolerance)
    return list(worst.values())


def _call_twice(session: Session, case: GoldenCase) -> tuple[Arrays, Arrays]:
    inputs = native(session, case.inputs)
    try:
        return session(inputs), session(inputs)
    except RuntimeFailure as error:
        raise RuntimeFailure(f"in case {case.name!r}: {error.message}", error.hint) from error
    except MxError:
        raise
    except Exception as error:
        raise RuntimeFailure(
            f"in case {case.name!r}: {type(error).__name__}: {first_line(error)}",
            "the runtime fails where the source does not; --debug shows the whole trace",
        ) from error


def _keep_worst(
    worst: dict[str, Comparison],
    case: GoldenCase,
    got: tuple[Arrays, Arrays],
    precision: str,
    tolerance: Mapping[str, float],
) -> None:
    first, second = got
    for label, outputs, want in (
        ("", first, case.outputs),
        (", second call", second, case.again or case.outputs),
    ):
        for compared in _compare_outputs(outputs, want, precision, tolerance):
            seen = worst.get(compared.name)
            if seen is None or (not compared.ok, compared.used) > (not seen.ok, seen.used):
                worst[compared.name] = replace(compared, case=case.name + label)


def native(session: Session, inputs: Arrays) -> Arrays:
    """A golden case's inputs in the session's dtypes: golden data keeps bfloat16 as float32."""
    dtypes = {spec.name: spec.dtype for spec in session.inputs}
    return {name: cast(a, "bfloat16") if dtypes.get(name) == "bfloat16" else a for name, a in inputs.items()}


def _compare_outputs(
    got: Mapping[str, Array], want: Mapping[str, Array], precision: str, tolerance: Mapping[str, float]
) -> list[Comparison]:
    compared = [compare(name, got.get(name), array, precision, tolerance) for name, array in want.items()]
    strangers = [name for name in got if name not in want]
    return compared + [_wrong(name, BUDGETS["float32"], "the source has no such output") for name in strangers]


def compare(
    name: str, got: Array | None, want: Array, precision: str, tolerance: Mapping[str, float] | None = None
) -> Comparison:
    """Compare one output with its reference: names, shapes and dtypes first, then values."""
    import numpy as np

    budget = budget_for(precision, want.dtype.name, tolerance)
    if got is None:
        return _wrong(name, budget, "the artifact has no such output")
    got = np.asarray(got)
    if got.shape != want.shape:
        return _wrong(name, budget, f"shape {list(got.shape)}, the source gives {list(want.shape)}")
    got, want = (a.astype(np.float32) if a.dtype.name == "bfloat16" else a for a in (got, want))
    if got.dtype != want.dtype:
        return _wrong(name, budget, f"dtype {got.dtype.name}, the source gives {want.dtype.name}")
    if want.dtype.kind not in "fc":
        return _compare_exact(name, got, want, budget)
    return _compare_floats(name, got, want, budget)


def _wrong(name: str, budget: Budget, problem: str, max_abs: float = 0.0) -> Comparison:
    return Comparison(name, budget, ok=False, problem=problem, max_abs=max_abs, used=UNMEASURED)


def _compare_exact(name: str, got: Array, want: Array, budget: Budget) -> Comparison:
    wrong = int((got != want).sum())
    if not wrong:
        return Comparison(name, budget)
    gap = float(abs(got.astype(float) - want.astype(float)).max())
    used = round(wrong / max(want.size * (1 - budget.equal), 1e-9), 6)
    if used <= 1:
        return Comparison(name, budget, max_abs=gap, used=used)
    needed = f", {budget.equal * 100:g} % must be equal" if budget.equal < 1 else ""
    problem = f"{wrong} of {want.size} values differ, by up to {gap:g}{needed}"
    return _wrong(name, budget, problem, gap)


def _compare_floats(name: str, got: Array, want: Array, budget: Budget) -> Comparison:
    import numpy as np

    if not want.size:
        return Comparison(name, budget)
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    a, b = got.astype(wide).ravel(), want.astype(wide).ravel()
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite]):
        return _wrong(name, budget, "infinities are not where the source has them")
    a, b = a[finite], b[finite]
    if not np.isfinite(a).all():
        return _wrong(
            name,
            budget,
            f"{int((~np.isfinite(a)).sum())} values are NaN or infinite, the source's are finite",
        )
    gap, size = np.abs(a - b), np.abs(b)
    scale = float(size.max(initial=0.0))
    allowed = budget.atol + budget.rtol * size + budget.noise * scale
    used = float((gap / np.maximum(allowed, 1e-300)).max(initial=0.0))
    max_abs, cosine = float(gap.max(initial=0.0)), _cosine(a, b)
    # Below the tolerance's own floor the direction of a vector is rounding noise.
    cosine_ok = cosine >= budget.cosine or scale <= budget.atol
    max_rel = max_abs / scale if scale else 0.0
    ok = used <= 1 and cosine_ok
    return Comparison(name, budget, ok, max_abs, max_rel, cosine, _top1(got, want), used)


def _cosine(a: Array, b: Array) -> float:
    import numpy as np

    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norm == 0:
        return 1.0 if np.array_equal(a, b) or not (a.any() and b.any()) else 0.0
    return float(min(1.0, np.abs(np.vdot(a, b)) / norm)) if a.dtype.kind == "c" else float(a @ b / norm)


def _top1(got: Array, want: Array) -> float | None:
    """Share of rows whose largest element is the same one; None where rows make no sense."""
    if want.ndim < 2 or want.shape[-1] < 2 or want.dtype.kind != "f":
        return None
    return float((got.argmax(-1) == want.argmax(-1)).mean())
