"""What a verb is asked for besides its model: how copies are judged, and how they are verified.

How the model is loaded is `LoadOptions`, which source plugins see too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..accuracy.judge import QualityGoal
from ..contract.artifacts import Artifact
from ..contract.sessions import Session
from ..data.samples import Samples, check_reference, open_samples
from ..errors import OptionError
from ..gate import budgets
from ..gate.worker import Child


@dataclass(frozen=True)
class Verification:
    """How a copy is verified.

    `tolerance` widens or narrows the fields of each output's budget, `sample` is a .npz of real inputs for the
    gate. `child` is a worker to verify in; without it, each artifact gets a process of its own.
    """

    enabled: bool = True
    tolerance: Mapping[str, float] = field(default_factory=dict)
    sample: Path | None = None
    child: Child | None = None

    @classmethod
    def read(
        cls, enabled: bool, tolerance: Mapping[str, float] | str | None, sample: Path | None = None
    ) -> Verification:
        """`tolerance` as on the command line, or by field. Raises OptionError."""
        fields = budgets.read_tolerance(tolerance)
        if fields and not enabled:
            raise OptionError("a tolerance is for the gate, which --no-verify leaves out", "leave one of them out")
        return cls(enabled, fields, sample)


#: how many samples are drawn, and by which seed, unless the user says so
SAMPLES, SEED = 128, 0


@dataclass(frozen=True)
class Judgement:
    """How a quantized copy is judged: the user's data, how samples are drawn from it, and what may be lost.

    `data` is a reference as `open_samples` takes it; None where there is none.
    """

    data: Any = None
    samples: int = SAMPLES
    seed: int = SEED
    column: str | None = None
    goal: QualityGoal = QualityGoal()

    @classmethod
    def read(
        cls,
        data: Any,
        samples: int,
        seed: int,
        column: str | None,
        metric: str,
        evaluate: Callable[[Session], float] | str | None,
        max_drop: float | None,
    ) -> Judgement:
        """Everything that can be wrong about them without a model is found here.

        Raises OptionError, InputError.
        """
        goal = QualityGoal.read(metric, max_drop, evaluate)
        if data is not None:
            check_reference(data, samples, seed, column)
        elif column is not None or (samples, seed) != (SAMPLES, SEED):
            raise OptionError(
                "--samples, --seed and --column say how calibration data is read, and none is given",
                "add --calibration, or leave them out",
            )
        return cls(data, samples, seed, column, goal)

    @property
    def idle(self) -> bool:
        """Whether it says nothing but what holds anyway."""
        return self.data is None and self.goal == QualityGoal()

    def open(self, artifact: Artifact) -> Samples | None:
        """The data, as samples for `artifact`. Raises InputError naming what does not fit."""
        if self.data is None:
            return None
        return open_samples(artifact, self.data, samples=self.samples, seed=self.seed, column=self.column)
