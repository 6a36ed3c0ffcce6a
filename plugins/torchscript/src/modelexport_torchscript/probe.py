"""Does what was compiled compute what the module computes, on inputs that it was not traced with?

The inputs are the parity gate's, and more of them: seeds, sizes within the dims, structured values. Each is run
twice, since a module may keep state. The gate checks the artifact again; this is to find another way before it.
"""

from __future__ import annotations

from pathlib import Path

from modelexport.contract import Dim, Session, dims_of
from modelexport.toolkit import (
    Case,
    DescribedSource,
    Golden,
    ModuleState,
    Verdict,
    compute_golden,
    generate_at,
    generate_cases,
    low_sizes,
    middle_sizes,
    module_reference,
    output_specs,
    stage,
    verdict,
)

from . import files, session

#: seeds of random inputs at the middle sizes; the gate itself takes three
SEEDS = 6

#: inputs this many times larger than those at the middle sizes are left to the gate: they would take minutes
LARGEST = 4

#: further sizes at which each dim is tried, from its low end to its middle
SIZES = 3


def reference(described: DescribedSource) -> Golden:
    """The module's own answers. Raises ReferenceError where it gives none."""
    stage("ask the model for its answers to other inputs")
    source = described.source
    call = module_reference(source.module, described.specs, source.outputs)
    return compute_golden(call, _inputs(described), ModuleState(source.module))


def judge(path: Path, described: DescribedSource, answers: Golden) -> Verdict:
    """Whether the saved model in `path` answers as the module did, within the budget of float32.

    It is the user's own, and has run as it is: what its code could do is looked at when it is finished.
    """
    stage(f"compare with the model on {len(answers.cases)} other inputs")
    outputs = output_specs(answers, described.specs)
    call = session.caller(files.load(path, trusted=True), described.specs, [spec.name for spec in outputs])
    return verdict(Session(call, described.specs, outputs), answers.cases, "float32")


def _inputs(described: DescribedSource) -> list[Case]:
    import numpy as np

    specs = described.specs
    cases = generate_cases(specs, described.example, seeds=SEEDS)
    usual = next(_elements(case) for case in cases if case.name == "middle")
    cases = [case for case in cases if _elements(case) <= LARGEST * usual]
    dims, generator = dims_of(specs), np.random.default_rng(SEEDS)
    low, middle = low_sizes(dims), middle_sizes(specs)
    for index in range(SIZES if dims else 0):
        sizes = {d.name: int(generator.choice(_between(d, low[d.name], middle[d.name]))) for d in dims}
        cases.append(Case(f"sizes {index}", generate_at(specs, sizes, described.example)))
    return cases


def _elements(case: Case) -> int:
    return sum(array.size for array in case.inputs.values())


def _between(dim: Dim, low: int, high: int) -> list[int]:
    return [size for size in range(low, high + 1) if dim.allows(size)]
