"""One recipe from beginning to end: smoothed, calibrated, applied, searched, measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from modelexport.contract import QuantizedLayer, Trial
from modelexport.toolkit import LeaveOut, matching, stage

from .. import contents, details, graph
from ..graph import Graph
from . import apply, blocks, explain, prepare, simulate
from .simulate import SAMPLES, Switchable
from .smoothing import OUTLIERS, Smoothing, smooth

if TYPE_CHECKING:
    from modelexport.contract import Calibration, Goal

    from .. import QuantizeOptions
    from .bench import Bench
    from .recipes import Recipe

#: samples that smoothing looks at: it takes many for the rare tokens on which channels are at their largest
SMOOTHED_ON = 64

#: ONNX Runtime folds a DequantizeLinear of constants only when told not to look for quantized operators
FOLDING = {"session.disable_quant_qdq": "1"}

#: how much of the budget the simulation may use up at first, and at most of what it used before, each time after
MARGIN, STRICTER = 0.9, 0.7

#: finished models that are built, at most
BUILT = 5


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
    smoothing: Smoothing = field(default_factory=Smoothing)
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
        """Quantize by the recipe, and leave layers until the score falls by `limit` at most; None: whatever falls.

        Raises OptionError for a pattern of `exclude` that matches no node, ConversionError where it can't be done.
        """
        self = cls(recipe, bench, goal, limit, graph.copy(model))
        self.excluded = matching((node.name for node in model.graph.node), options.exclude)
        self._prepare(calibration)
        stage(f"quantize the layers ({recipe.mode})")
        self.first = self._build(frozenset(), "everything quantized")
        if limit is not None and self.drop > limit:
            self._search(limit)
        if not recipe.elsewhere:
            stage("time the quantized model")
            self.latency = bench.latency(self.quantized, self.config)
        self._conclude()
        return self

    def _prepare(self, calibration: Calibration | None) -> None:
        """Put the floating-point model in the form that the recipe quantizes, and take ranges from the data."""
        if self.recipe.kind == "blockwise":
            prepare.split_gemm(self.smoothed)
            graph.add_types(self.smoothed)
        if self.recipe.smooth:
            samples = islice(self.goal.samples if calibration is None else calibration, SMOOTHED_ON)
            self.smoothing = smooth(Graph(self.smoothed), samples, self.excluded)
            self.excluded |= frozenset(self.smoothing.outliers)
            graph.add_types(self.smoothed)
            if self.recipe.kind == "static":
                self.excluded |= _before_smoothing(self.smoothed, self.smoothing.gains)
        if self.recipe.kind == "static":
            assert calibration is not None
            self.ranges = apply.calibrate(self.smoothed, self.recipe, calibration)

    @property
    def config(self) -> Mapping[str, str]:
        """The session's configuration entries that the quantized model takes."""
        if self.recipe.elsewhere:
            return details.AS_WRITTEN
        return FOLDING if self.recipe.kind == "folded" else {}

    @property
    def holds(self) -> bool:
        return self.limit is None or self.drop <= self.limit

    @property
    def changed(self) -> bool:
        """Whether anything is quantized at all."""
        return contents.is_quantized(self.quantized, self.smoothed)

    @property
    def worst(self) -> float:
        return max(self.latency.values(), default=float("inf"))

    def __str__(self) -> str:
        return f"{self.recipe.mode}: drop {self.drop:.4f}, latency {self.worst:.2f} ×"

    def _build(self, left: frozenset[str], what: str) -> Any:
        self.quantized = apply.quantize(self.smoothed, self.recipe, left, self.excluded, self.ranges)
        self.left = left
        with self.bench.open(self.quantized, self.config) as opened:
            self.drop = self.goal.drop(opened)
        named = tuple(sorted(left))
        self.trials.append(Trial(f"{self.recipe.mode}: {what}", self.drop, named, size=self.quantized.ByteSize()))
        return self.quantized

    def _search(self, limit: float) -> None:
        """Leave layers until the finished model holds the limit; keep the best that was built.

        What the simulation finds is built and measured, and looked for again under a stricter limit where the
        finished model falls short.
        """
        tables = {unit.name for unit in self.simulation.units if unit.kind == "Gather"}
        # An embedding table in float32 would undo most of what was saved: it goes last.
        ranked = sorted(simulate.ranking(self.sensitivities), key=tables.__contains__)
        sizes = Graph(self.smoothed).weight_bytes()
        hunt = LeaveOut(ranked, lambda left: self.goal.drop(self.simulation.session(left)), sizes)
        built = {self.left: (self.drop, self.quantized)}
        aim = limit * MARGIN
        for _ in range(BUILT):
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
            aim *= min(STRICTER, limit / built[left][0])
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
        wanted = explain.activations(Graph(self.smoothed), self.simulation.units)
        return explain.observe(self.smoothed, wanted, self.goal.samples[:SAMPLES])

    def layers(self) -> tuple[QuantizedLayer, ...]:
        """A row for each layer that is quantized or was left, and for each whose weights don't fit into blocks."""
        units, floats = self.simulation.units, Graph(self.smoothed)
        rows = explain.layers(units, self.recipe, self.left, floats, self._seen, self.sensitivities, self._times())
        if self.recipe.writer != "blocks":
            return rows
        return (*rows, *explain.left(floats, blocks.unfit(self.smoothed, self.recipe.block_size)))

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
        """What a person should look at."""
        ranges = {} if self.ranges is None else _plain(self.ranges)
        return explain.warnings(Graph(self.smoothed), self.recipe, self.left | self.excluded, self._seen, ranges)

    def notes(self) -> list[str]:
        """What the user is shown at once."""
        shown = ", ".join(f"{ratio:.2f} × at {case!r}" for case, ratio in self.latency.items())
        notes = [f"{self.recipe.mode}: {self.recipe.why}"] if self.recipe.why else []
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
            notes.append(f"in {len(outliers)} layers the {OUTLIERS} largest channels stay in float32")
        if self.config and not self.recipe.elsewhere:
            notes.append(
                "to be as fast elsewhere, open it with " + ", ".join(f"{k}={v}" for k, v in self.config.items())
            )
        return notes


def _before_smoothing(model: Any, smoothed: Collection[str]) -> frozenset[str]:
    """The nodes that give and take what was smoothed: in 8 bits there, smoothing would come too late."""
    names = {f"{name}_smooth" for name in smoothed}
    makers = [node for node in model.graph.node if node.op_type not in graph.WEIGHTS]
    return frozenset(names | {node.name for node in makers if set(node.output) & set(smoothed)})


def _plain(ranges: Any) -> dict[str, tuple[float, float]]:
    """The ranges of a TensorsData as numbers."""
    pairs = {name: ranges[name].range_value for name in ranges.keys()}  # noqa: SIM118
    return {name: (float(low.min()), float(high.max())) for name, (low, high) in pairs.items()}
