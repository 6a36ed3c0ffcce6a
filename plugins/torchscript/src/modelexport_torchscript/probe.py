"""Does what was compiled compute what the module computes, on inputs that it was not traced with?

The inputs are the parity gate's, and more of them: seeds, sizes within the dims, structured values. Each is run
twice, since a module may keep state. The gate checks the artifact again; this is to find another way before it.
"""

from __future__ import annotations

from pathlib import Path

from modelexport.contract import Dim, Session, dims_of
from modelexport.errors import RuntimeFailure
from modelexport.toolkit import (
    Case,
    DescribedSource,
    Golden,
    ModuleState,
    compare_all,
    compute_golden,
    generate_at,
    generate_cases,
    low_sizes,
    middle_sizes,
    module_reference,
    output_specs,
)

from . import session

#: seeds of random inputs at the middle sizes; the gate itself takes three
SEEDS = 6

#: inputs this many times larger than those at the middle sizes are left to the gate: they would take minutes
LARGEST = 4

#: further sizes at which each dim is tried, from its low end to its middle
SIZES = 3


def reference(described: DescribedSource) -> Golden:
    """The module's own answers. Raises ReferenceError where it gives none."""
    source, specs = described.source, described.specs
    call = module_reference(source.module, specs, source.outputs)
    return compute_golden(call, _inputs(described), ModuleState(source.module))


def difference(path: Path, described: DescribedSource, wanted: Golden) -> str | None:
    """The worst difference of a saved model to the reference, in words; None where it is within the budget."""
    outputs = output_specs(wanted, described.specs)
    call = session.caller(session.load_file(path), described.specs, [spec.name for spec in outputs])
    try:
        compared = compare_all(Session(call, described.specs, outputs), wanted.cases, "float32", {})
    except RuntimeFailure as error:
        return error.message
    worst = max(compared, key=lambda each: (not each.ok, each.used))
    if worst.ok:
        return None
    what = f"output {worst.name!r} in case {worst.case!r}"
    return f"{what}: {worst.problem}" if worst.problem else f"{what} differs by {worst.max_abs:.3g}"


def _inputs(described: DescribedSource) -> list[Case]:
    import numpy as np

    specs = described.specs
    drawn = generate_cases(specs, described.example, seeds=SEEDS)
    usual = next(_elements(case) for case in drawn if case.name == "middle")
    drawn = [case for case in drawn if _elements(case) <= LARGEST * usual]
    dims, generator = dims_of(specs), np.random.default_rng(SEEDS)
    low, middle = low_sizes(dims), middle_sizes(specs)
    for index in range(SIZES if dims else 0):
        sizes = {d.name: int(generator.choice(_between(d, low[d.name], middle[d.name]))) for d in dims}
        drawn.append(Case(f"sizes {index}", generate_at(specs, sizes, described.example)))
    return drawn


def _elements(case: Case) -> int:
    return sum(array.size for array in case.inputs.values())


def _between(dim: Dim, low: int, high: int) -> list[int]:
    return [size for size in range(low, high + 1) if dim.allows(size)]
