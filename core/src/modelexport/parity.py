"""The parity gate: does the written artifact compute what the source computed?

A fresh process loads only the artifact, runs every golden case twice, and compares every output with the
reference. See docs/explanation/parity.md for why each part is there.

For an output `y` and its reference `r`, an element is within budget when
`|y - r| <= atol + rtol * |r| + noise * max|r|`: `noise` is the rounding that a tensor of that magnitude
carries in the dtype, whatever the size of the single element. Integers and booleans must be equal, but for the
share that the budget of a quantized model allows to differ.
"""

from __future__ import annotations

import platform
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import golden, manifest, worker
from .errors import ArtifactError, MxError, OptionError, RuntimeFailure
from .plugins import first_line
from .types import Artifact, Parity

if TYPE_CHECKING:
    from .golden import GoldenCase
    from .types import Array, Arrays, Session


@dataclass(frozen=True)
class Budget:
    """How far an output may be from its reference; see the formula above. `cosine` is the least allowed, and
    `equal` the least share of the elements of an output of integers or booleans."""

    atol: float
    rtol: float
    noise: float
    cosine: float
    equal: float = 1.0


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
    wanted = [
        _row(row["name"], budget_for(artifact.precision, kept.get(row["name"], ""), tolerance))
        for row in artifact.parity.outputs
    ]
    names = ("atol", "rtol", "noise", "min_cosine", "min_equal")
    return all(
        now[name] == then.get(name)
        for now, then in zip(wanted, artifact.parity.outputs, strict=True)
        for name in names
    )


def parse_tolerance(text: str | None) -> dict[str, float]:
    """`1e-3` (atol and rtol) or `atol=1e-4,cosine=0.999`. Raises OptionError."""
    if not text:
        return {}
    pairs = re.findall(r"([a-z]+)=([^,]+)", text) or [("atol", text), ("rtol", text)]
    names = [field.name for field in fields(Budget)]
    try:
        values = {name: float(value) for name, value in pairs}
    except ValueError as error:
        raise OptionError(f"can't read --tolerance {text!r}", "write 1e-3, or atol=1e-4,rtol=1e-3") from error
    unknown = [name for name in values if name not in names]
    if unknown or any(not value >= 0 for value in values.values()):
        raise OptionError(f"can't use --tolerance {text!r}", f"non-negative values of {', '.join(names)}")
    return values


# --------------------------------------------------------------------------------------- parent side


def verify(
    artifact: Artifact,
    tolerance: Mapping[str, float] | None = None,
    options: Mapping[str, Any] | None = None,
    skipped: Mapping[str, str] | None = None,
    reference: golden.Golden | None = None,
    child: worker.Child | None = None,
) -> Parity:
    """Run the gate on `artifact` in a fresh process. The result says whether it passed; nothing is written.

    `reference` stands in for the artifact's own golden data; `child` is a process to use that is fresh enough:
    one that has done nothing but this. Raises RuntimeFailure when the runtime fails or
    takes its process down.
    """
    with tempfile.TemporaryDirectory(prefix="mx-verify-") as folder:
        data = artifact.golden
        if reference is not None:
            data = Path(folder) / "golden.npz"
            golden.save(reference, data)
        job = {
            "job": "verify",
            "path": str(artifact.path.resolve()),
            "golden": str(data.resolve()),
            "manifest": manifest.to_json(artifact),
            "tolerance": dict(tolerance or {}),
            "options": dict(options or {}),
        }
        with nullcontext(child) if child else worker.start(f"verifying {artifact.path}") as process:
            answer = process.ask(job)
    parity = Parity(**{**answer, "outputs": tuple(answer["outputs"]), "cases": tuple(answer["cases"])})
    return replace(parity, skipped=dict(skipped or {}))


_STATE = (
    "; the source updates a buffer in its forward, so its second call may answer differently: "
    "the artifact must keep that state as well"
)


def _failure(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line for the worst output of a gate that did not pass."""
    return describe(max((row for row in rows if not row["ok"]), key=lambda row: float(row["used"])))


def describe(row: Mapping[str, Any]) -> str:
    what = f"output {row['name']!r} in case {row['case']!r}"
    if row.get("problem"):
        return f"{what}: {row['problem']}"
    return (
        f"{what}: max abs difference {row['max_abs']:.3g} (relative {row['max_rel']:.3g}, cosine "
        f"{row['cosine']:.6f}), {row['used']:.3g} × the budget of atol {row['atol']:g}, rtol {row['rtol']:g}, "
        f"noise {row['noise']:g}, cosine {row['min_cosine']:g}"
    )


# --------------------------------------------------------------------------------------- child side


def run_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """The fresh process's half: load the artifact, run the cases, compare."""
    from . import api
    from .errors import CannotRunHere

    artifact = manifest.from_json(job["manifest"], Path(job["path"]))
    reference = golden.load(Path(job["golden"]))
    if not reference.cases:
        raise ArtifactError(f"{artifact.golden} holds no cases", "export the model again")
    environment = {"platform": platform.platform(), "machine": platform.machine()}
    names = [case.name for case in reference.cases]
    try:
        session = api.open_session(artifact, job["options"])
    except CannotRunHere as error:
        parity = Parity("structure", str(error), cases=tuple(names), environment=environment)
        return asdict(parity)
    with session:
        rows = compare_all(session, reference.cases, artifact.precision, job["tolerance"])
    passed = all(row["ok"] for row in rows)
    parity = Parity(passed, "", tuple(rows), tuple(names), environment=environment)
    stateful = any(case.again is not None for case in reference.cases)
    return asdict(parity if passed else replace(parity, reason=_failure(rows) + (_STATE if stateful else "")))


def compare_all(
    session: Session, cases: Sequence[GoldenCase], precision: str, tolerance: Mapping[str, float]
) -> list[dict[str, Any]]:
    """The worst comparison of each output over all cases and both calls.

    A case is compared after the next one ran: a session that hands out its own buffers, which the next call
    overwrites, is caught as well.
    """
    worst: dict[str, dict[str, Any]] = {}
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
    worst: dict[str, dict[str, Any]],
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
        for row in _compare_outputs(outputs, want, precision, tolerance):
            row["case"] = case.name + label
            seen = worst.get(row["name"])
            if seen is None or (not row["ok"], row["used"]) > (not seen["ok"], seen["used"]):
                worst[row["name"]] = row


def native(session: Session, inputs: Arrays) -> Arrays:
    """A golden case's inputs in the session's dtypes: golden data keeps bfloat16 as float32."""
    from .cases import cast

    dtypes = {spec.name: spec.dtype for spec in session.inputs}
    return {name: cast(a, "bfloat16") if dtypes.get(name) == "bfloat16" else a for name, a in inputs.items()}


def _compare_outputs(
    got: Mapping[str, Array], want: Mapping[str, Array], precision: str, tolerance: Mapping[str, float]
) -> list[dict[str, Any]]:
    rows = [compare(name, got.get(name), array, precision, tolerance) for name, array in want.items()]
    return rows + [
        _row(name, BUDGETS["float32"], problem="the source has no such output") for name in got if name not in want
    ]


def compare(
    name: str, got: Array | None, want: Array, precision: str, tolerance: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Compare one output with its reference: a row of figures, `used` being the share of the budget."""
    import numpy as np

    budget = budget_for(precision, want.dtype.name, tolerance)
    if got is None:
        return _row(name, budget, problem="the artifact has no such output")
    got = np.asarray(got)
    if got.shape != want.shape:
        return _row(name, budget, problem=f"shape {list(got.shape)}, the source gives {list(want.shape)}")
    got, want = (a.astype(np.float32) if a.dtype.name == "bfloat16" else a for a in (got, want))
    if got.dtype != want.dtype:
        return _row(name, budget, problem=f"dtype {got.dtype.name}, the source gives {want.dtype.name}")
    if want.dtype.kind not in "fc":
        return _compare_exact(name, got, want, budget)
    return _compare_floats(name, got, want, budget)


def _row(name: str, budget: Budget, problem: str = "", **figures: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "ok": not problem, "max_abs": 0.0, "max_rel": 0.0, "cosine": 1.0}
    row |= {"top1": None, "used": 1e9 if problem else 0.0, "problem": problem}
    row |= {"atol": budget.atol, "rtol": budget.rtol, "noise": budget.noise, "min_cosine": budget.cosine}
    row |= {"min_equal": budget.equal}
    return row | figures


def _compare_exact(name: str, got: Array, want: Array, budget: Budget) -> dict[str, Any]:
    wrong = int((got != want).sum())
    if not wrong:
        return _row(name, budget)
    gap = float(abs(got.astype(float) - want.astype(float)).max())
    used = round(wrong / max(want.size * (1 - budget.equal), 1e-9), 6)
    if used <= 1:
        return _row(name, budget, max_abs=gap, used=used)
    needed = f", {budget.equal * 100:g} % must be equal" if budget.equal < 1 else ""
    problem = f"{wrong} of {want.size} values differ, by up to {gap:g}{needed}"
    return _row(name, budget, problem, max_abs=gap)


def _compare_floats(name: str, got: Array, want: Array, budget: Budget) -> dict[str, Any]:
    import numpy as np

    if not want.size:
        return _row(name, budget)
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    a, b = got.astype(wide).ravel(), want.astype(wide).ravel()
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite]):
        return _row(name, budget, "infinities are not where the source has them")
    a, b = a[finite], b[finite]
    if not np.isfinite(a).all():
        return _row(
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
    figures: dict[str, Any] = {
        "max_abs": max_abs,
        "max_rel": max_abs / scale if scale else 0.0,
        "cosine": cosine,
        "used": used,
    }
    return _row(name, budget, **figures) | {"top1": _top1(got, want), "ok": used <= 1 and cosine_ok}


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
