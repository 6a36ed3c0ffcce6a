"""Forms of one model measured against the model as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from modelexport.contract import Session
from modelexport.toolkit import cases_to_time, latency_ratios

from .. import session
from ..graph import Graph, probe

if TYPE_CHECKING:
    from modelexport.contract import Arrays, Artifact
    from modelexport.toolkit import GoldenCase

#: up to this, what seems slower is measured again: a busy machine looks like that
DOUBTFUL = 1.5


class Bench:
    """Measures forms of one model against the model as it was."""

    def __init__(self, artifact: Artifact, model: Any, cases: Sequence[GoldenCase]) -> None:
        self.artifact = artifact
        self._outputs = [spec.name for spec in artifact.outputs]
        self._cases = cases_to_time(cases)
        self._model = model
        self.profiled = self._cases[0].inputs

    @cached_property
    def _base(self) -> Any:
        return session.open_model(self._model)

    def shapes(self, sample: Arrays) -> dict[str, tuple[int, ...]]:
        """The shape of what every layer with weights takes and gives, for one sample."""
        constants = {tensor.name for tensor in self._model.graph.initializer}
        names = [
            name
            for node, *_ in Graph(self._model).weighted()
            for name in (node.input[0], node.output[0])
            if name and name not in constants
        ]
        (values,) = probe(self._model, list(dict.fromkeys(names)), [sample])
        return {name: array.shape for name, array in values.items()}

    def open(self, model: Any, config: Mapping[str, str]) -> Session:
        runtime = session.open_model(model, config=config)
        return Session(session.caller(runtime, self._outputs), self.artifact.inputs, self.artifact.outputs)

    def latency(self, model: Any, config: Mapping[str, str]) -> dict[str, float]:
        """Relative to the model as it was, by case."""
        runtime = session.open_model(model, config=config)
        ratios = {}
        for case in self._cases:
            calls = [lambda r=r, i=case.inputs: r.run(self._outputs, i) for r in (self._base, runtime)]
            (ratio,) = latency_ratios(calls)
            if 1 < ratio < DOUBTFUL:
                ratio = min(ratio, *latency_ratios(calls))
            ratios[case.name] = round(ratio, 3)
        return ratios
