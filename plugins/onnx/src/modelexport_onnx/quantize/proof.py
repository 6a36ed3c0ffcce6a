"""A copy on ONNX Runtime beside the model it was made of, for targets that go on from it.

Where another target was asked to quantize, what it compiles is no artifact of its own and passes no gate: so it is
proven here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelexport.contract import Parity
from modelexport.errors import ConversionError
from modelexport.toolkit import GoldenCase, compare_all, stage

from .. import RunOptions, session

if TYPE_CHECKING:
    from modelexport.contract import Artifact, Goal

#: real samples that a copy is looked at on, at most
SAMPLES = 6


def answered(artifact: Artifact, goal: Goal) -> list[GoldenCase]:
    """Real samples, with what the artifact's own model says to them."""
    runtime = session.open_file(artifact.entry_path, RunOptions(providers=("cpu",)))
    call = session.caller(runtime, [spec.name for spec in artifact.outputs])
    samples = goal.samples[:SAMPLES]
    return [GoldenCase(f"sample {number}", sample, call(sample)) for number, sample in enumerate(samples)]


def proven(copy: Artifact, cases: Sequence[GoldenCase]) -> Parity:
    """How near the answers of a copy are to those of `cases`, on the CPU, at the budget of its precision."""
    stage(f"verify the {copy.precision} model on ONNX Runtime")
    with session.open_artifact(copy, RunOptions(providers=("cpu",))) as opened:
        compared = compare_all(opened, cases, copy.precision, {})
    wrong = [each for each in compared if not each.ok]
    reason = str(max(wrong, key=lambda each: each.used)) if wrong else ""
    return Parity(not wrong, reason, tuple(compared), tuple(case.name for case in cases))


def check(copy: Artifact) -> None:
    """Raise ConversionError for a copy that is proven to compute something else."""
    if copy.parity.verified is False:
        raise ConversionError(
            f"in {copy.precision} the ONNX model computes something else: {copy.parity.reason}",
            "choose another precision, or leave layers out",
        )
