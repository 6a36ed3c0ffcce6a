"""Does what was compiled compute what the module computes, on inputs that it was not traced with?

The inputs are the parity gate's, and more of them: seeds, sizes within the dims, structured values. Each is run
twice, since a module may keep state. The gate checks the artifact again; this is to find another way before it.
"""

from __future__ import annotations

from pathlib import Path

from modelexport import cases, golden, parity, torchref
from modelexport.errors import RuntimeFailure
from modelexport.source import Described
from modelexport.types import Dim, Session

from . import session

#: seeds of random inputs at the middle sizes; the gate itself takes three
SEEDS = 6

#: inputs this many times larger than those at the middle sizes are left to the gate: they would take minutes
LARGEST = 4

#: further sizes at which each dim is tried, from its low end to its middle
SIZES = 3


def reference(described: Described) -> golden.Golden:
    """The module's own answers. Raises ReferenceError where it gives none."""
    source, specs = described.source, described.specs
    call = torchref.reference(source.module, specs, source.outputs)
    return golden.compute(call, _inputs(described), torchref.ModuleState(source.module))


def difference(path: Path, described: Described, wanted: golden.Golden) -> str | None:
    """The worst difference of a saved model to the reference, in words; None where it is within the budget."""
    outputs = golden.output_specs(wanted, described.specs)
    call = session.caller(session.load_file(path), described.specs, [spec.name for spec in outputs])
    try:
        rows = parity.compare_all(Session(call, described.specs, outputs), wanted.cases, "float32", {})
    except RuntimeFailure as error:
        return error.message
    worst = max(rows, key=lambda row: (not row["ok"], float(row["used"])))
    if worst["ok"]:
        return None
    what = f"output {worst['name']!r} in case {worst['case']!r}"
    return f"{what}: {worst['problem']}" if worst["problem"] else f"{what} differs by {worst['max_abs']:.3g}"


def _inputs(described: Described) -> list[cases.Case]:
    import numpy as np

    specs = described.specs
    drawn = cases.generate(specs, described.example, seeds=SEEDS)
    usual = next(_elements(case) for case in drawn if case.name == "middle")
    drawn = [case for case in drawn if _elements(case) <= LARGEST * usual]
    dims, generator = cases.dims_of(specs), np.random.default_rng(SEEDS)
    low, middle = cases.low_sizes(dims), cases.middle_sizes(specs)
    for index in range(SIZES if dims else 0):
        sizes = {d.name: int(generator.choice(_between(d, low[d.name], middle[d.name]))) for d in dims}
        drawn.append(cases.Case(f"sizes {index}", cases.generate_at(specs, sizes, described.example)))
    return drawn


def _elements(case: cases.Case) -> int:
    return sum(array.size for array in case.inputs.values())


def _between(dim: Dim, low: int, high: int) -> list[int]:
    return [size for size in range(low, high + 1) if dim.allows(size)]
