"""One recipe from beginning to end: smoothed, calibrated, applied, searched, measured."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import cached_property
from typing import TYPE_CHECKING, Any

from modelexport.contract import QuantizedLayer, Session, Trial
from modelexport.errors import OptionError
from modelexport.toolkit import cases_to_time, latency_ratios

from .. import modelfile, session
from . import apply, explain, graph, rewrite, search
from .recipes import Recipe
from .simulate import SAMPLES, Switchable

if TYPE_CHECKING:
    from modelexport.contract import Arrays, Artifact, Calibration, Goal
    from modelexport.toolkit import GoldenCase

    from .. import QuantizeOptions

#: samples that smoothing looks at: it takes many for the rare tokens on which channels are at their largest
SMOOTHED_ON = 64

#: ONNX Runtime folds a DequantizeLinear of constants only when told not to look for quantized operators
FOLDING = {"session.disable_quant_qdq": "1"}

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
        names = [
            name
            for node, *_ in graph.Graph(self._model).weighted()
            for name in (node.input[0], node.output[0])
            if name and name not in {tensor.name for tensor in self._model.graph.initializer}
        ]
        (values,) = graph.probe(self._model, list(dict.fromkeys(names)), [sample])
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


@dataclass(eq=False)
class Attempt:
    """What became of one recipe. `smoothed` is the floating-point model that `quantized` was made from."""

    recipe: Recipe
    bench: Bench
    goal: Goal
    limit: float | None
    smoothed: Any
    quantized: Any = None
    first: Any = None
    ranges: Any = None
    smoothing: rewrite.Smoothing = field(default_factory=rewrite.Smoothing)
    left: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    drop: float = float("inf")
    latency: dict[str, float] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)

    @classmethod
    def make(
        cls,
        recipe: Recipe,
        model: Any,
        bench: Bench,
        options: QuantizeOptions,
        calibration: Calibration | None,
        goal: Goal,
        limit: float | None,
    ) -> Attempt:
        self = cls(recipe, bench, goal, limit, graph.copy(model))
        self.excluded = _matching(model, options.exclude)
        if recipe.kind == "blockwise":
            rewrite.split_gemm(self.smoothed)
            graph.add_types(self.smoothed)
        if recipe.smooth:
            samples = calibration if calibration is not None else goal.samples
            self.smoothing = rewrite.smooth(graph.Graph(self.smoothed), _some(samples), self.excluded)
            self.excluded |= frozenset(self.smoothing.outliers)
            graph.add_types(self.smoothed)
            if recipe.kind == "static":
                self.excluded |= _before_smoothing(self.smoothed, self.smoothing.gains)
        if recipe.kind == "static":
            assert calibration is not None
            self.ranges = apply.calibrate(self.smoothed, recipe, calibration)
        self.first = self._build(frozenset(), "everything quantized")
        if limit is not None and self.drop > limit:
            self._search(limit)
        if not recipe.elsewhere:
            self.latency = bench.latency(self.quantized, self.config)
        self._conclude()
        return self

    @property
    def config(self) -> Mapping[str, str]:
        if self.recipe.elsewhere:
            return session.AS_WRITTEN
        return FOLDING if self.recipe.kind == "folded" else {}

    @property
    def holds(self) -> bool:
        return self.limit is None or self.drop <= self.limit

    @property
    def changed(self) -> bool:
        """Whether anything is quantized at all."""
        return modelfile.operators(self.quantized) != modelfile.operators(self.smoothed)

    @property
    def worst(self) -> float:
        return max(self.latency.values(), default=float("inf"))

    def __str__(self) -> str:
        return f"{self.recipe.kind}: drop {self.drop:.4f}, latency {self.worst:.2f} ×"

    def _build(self, left: frozenset[str], what: str) -> Any:
        self.quantized = apply.quantize(self.smoothed, self.recipe, left, self.excluded, self.ranges)
        self.left = left
        with self.bench.open(self.quantized, self.config) as opened:
            self.drop = self.goal.drop(opened)
        named = tuple(sorted(left))
        self.trials.append(Trial(f"{self.recipe.kind}: {what}", self.drop, named, size=self.quantized.ByteSize()))
        return self.quantized

    def _search(self, limit: float) -> None:
        """Leave layers until the finished model holds the limit; keep the best that was built."""
        tables = {unit.name for unit in self.simulation.units if unit.kind == "Gather"}
        # An embedding table in float32 would undo most of what was saved: it goes last.
        ranked = sorted(search.ranking(self.sensitivities), key=tables.__contains__)
        sizes = graph.Graph(self.smoothed).weight_bytes()
        hunt = search.Search(ranked, lambda left: self.goal.drop(self.simulation.session(left)), sizes)
        built = {self.left: (self.drop, self.quantized)}
        aim = limit * search.MARGIN
        for _ in range(search.BUILT):
            left = hunt.find(aim)
            self.trials += hunt.trials
            hunt.trials.clear()
            if left is None:
                break
            if left not in built:
                self._build(left, f"{len(left)} of {len(ranked)} layers left")
                built[left] = (self.drop, self.quantized)
            if built[left][0] <= limit:
                break
            aim *= min(search.STRICTER, limit / built[left][0])
        self.left = min(built, key=lambda left: built[left][0])
        self.drop, self.quantized = built[self.left]

    @cached_property
    def simulation(self) -> Switchable:
        # In the form of QOperator, tensors between layers are 8-bit and have other names.
        form = replace(self.recipe, format="qdq")
        same = form == self.recipe
        model = self.first if same else apply.quantize(self.smoothed, form, (), self.excluded, self.ranges)
        return Switchable(self.smoothed, model, self.bench.artifact)

    @cached_property
    def sensitivities(self) -> Any:
        return self.simulation.sensitivities(self.goal.samples)

    def _conclude(self) -> None:
        named = tuple(sorted(self.left))
        last = max(i for i, t in enumerate(self.trials) if not t.simulated and t.left == named)
        trial = self.trials[last]
        verdict = "holds the budget" if self.holds else "over budget"
        if self.limit is None:
            verdict = "kept as asked"
        self.trials[last] = Trial(trial.what, trial.drop, trial.left, False, self.latency, trial.size, verdict)

    # ----------------------------------------------------------------------------------- the account

    @cached_property
    def _seen(self) -> dict[str, tuple[float, float]]:
        wanted = explain.activations(graph.Graph(self.smoothed), self.simulation.units)
        return explain.observe(self.smoothed, wanted, self.goal.samples[:SAMPLES])

    def layers(self) -> tuple[QuantizedLayer, ...]:
        units, floats = self.simulation.units, graph.Graph(self.smoothed)
        return explain.layers(units, self.recipe, self.left, floats, self._seen, self.sensitivities, self._times())

    def _times(self) -> dict[str, dict[str, float]]:
        """Seconds a layer, by form of the model; none for a runtime that is not here."""
        if self.recipe.elsewhere:
            return {"float": {}, "all": {}, "final": {}}
        names = [node.name for node in self.smoothed.graph.node]
        forms = {"float": (self.smoothed, {}), "all": (self.first, self.config)}
        times = {
            form: explain.profile(model, self.bench.profiled, names, config)
            for form, (model, config) in forms.items()
        }
        same = self.first is self.quantized
        times["final"] = (
            times["all"] if same else explain.profile(self.quantized, self.bench.profiled, names, self.config)
        )
        return times

    def warnings(self) -> list[str]:
        ranges = {} if self.ranges is None else _plain(self.ranges)
        return explain.warnings(
            graph.Graph(self.smoothed), self.recipe, self.left | self.excluded, self._seen, ranges
        )

    def notes(self) -> list[str]:
        shown = ", ".join(f"{ratio:.2f} × at {case!r}" for case, ratio in self.latency.items())
        if not self.changed:
            return ["nothing is quantized: no weights here are large enough for it to save anything"]
        notes = [f"{self.recipe.kind}: {self.recipe.why}"] if self.recipe.why else []
        if shown:
            notes.append(f"latency {shown}, relative to the artifact it was made from")
        if self.left:
            form = "kept in blocks" if self.recipe.fallback == "blockwise" else "left in float32"
            notes.append(
                f"{len(self.left)} of {len(self.simulation.units)} layers {form}: {', '.join(sorted(self.left))}"
            )
        gains, outliers = self.smoothing.gains, self.smoothing.outliers
        if gains:
            notes.append(f"smoothed {len(gains)} activations, {max(gains.values()):.0f} dB gained at most")
        if outliers:
            notes.append(f"in {len(outliers)} layers the {rewrite.OUTLIERS} largest channels stay in float32")
        if self.config and not self.recipe.elsewhere:
            notes.append(
                "to be as fast elsewhere, open it with " + ", ".join(f"{k}={v}" for k, v in self.config.items())
            )
        return notes


def _some(samples: Iterable[Arrays]) -> list[Arrays]:
    found = []
    for sample in samples:
        found.append(sample)
        if len(found) == SMOOTHED_ON:
            break
    return found


def _before_smoothing(model: Any, smoothed: Collection[str]) -> frozenset[str]:
    """The nodes that give and take what was smoothed: in 8 bits there, smoothing would come too late."""
    found = {f"{name}_smooth" for name in smoothed}
    makers = [node for node in model.graph.node if node.op_type not in graph.WEIGHTS]
    return frozenset(found | {node.name for node in makers if set(node.output) & set(smoothed)})


def _matching(model: Any, patterns: Collection[str]) -> frozenset[str]:
    """The nodes whose names match a pattern. Raises OptionError for a pattern that matches none."""
    names = [node.name for node in model.graph.node]
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in names):
            raise OptionError(f"no node is called {pattern!r}", "`mx inspect --quantization` lists the names")
    return frozenset(name for name in names if any(fnmatch(name, pattern) for pattern in patterns))


def _plain(ranges: Any) -> dict[str, tuple[float, float]]:
    found = {}
    for name in ranges.keys():  # noqa: SIM118
        low, high = ranges[name].range_value
        found[name] = (float(low.min()), float(high.max()))
    return found
