"""A quantization report as the commands print it: score, figures, layers, the trail of trials, warnings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .tables import number, size, table

if TYPE_CHECKING:
    from ...contract.artifacts import Artifact
    from ...contract.quantization import QuantizationReport


def outcome(artifact: Artifact) -> None:
    """What became of a quantized artifact: its score, the trail, and warnings."""
    report = artifact.quantization_report()
    score(report)
    trail(report)
    warnings(report)


def one_line(artifact: Artifact) -> None:
    """The report in one line; `mx inspect --quantization` shows all of it."""
    from collections import Counter

    report = artifact.quantization_report()
    counts = Counter(layer.precision for layer in report.layers).most_common()
    layers = ", ".join(f"{count} layers {precision}" for precision, count in counts)
    lost = f"{report.score.metric} {number(report.score.score, 4)}" if report.score else ""
    parts = [report.mode, layers, lost, f"{len(report.warnings)} warnings" if report.warnings else ""]
    click.echo(f"  quantization: {'; '.join(filter(None, parts))} (--quantization shows the layers)")


def score(report: QuantizationReport) -> None:
    """What a quantized copy scored, against the artifact it was made from."""
    found = report.score
    if found is None:
        click.echo("  accuracy: not measured, this machine can't run the model")
        return
    own = f" ({number(found.baseline, 4)} before)" if found.baseline != 1 else ""
    allowed = f" (max {found.max_drop:g})" if found.max_drop is not None else ""
    where = f" on {found.samples} {found.data}" if found.data != found.metric else ""
    click.echo(f"  {found.metric} {number(found.score, 4)}{own}{where}, drop {loss(found.drop)}{allowed}")


def figures(report: QuantizationReport) -> None:
    """Every metric of every output."""
    rows = [
        [
            output,
            number(figures_of["cosine"], 5),
            number(figures_of["mean cosine"], 5),
            number(figures_of["sqnr"], 1),
            number(figures_of.get("top1"), 3),
        ]
        for output, figures_of in (report.score.figures if report.score else {}).items()
    ]
    if rows:
        table(["output", "lowest cosine", "mean cosine", "SQNR, dB", "top-1"], rows)


def layers(report: QuantizationReport) -> None:
    """A row for each layer, its name shortened, without the columns that nothing was measured for."""
    from .charts import shortened

    columns: dict[str, list[str]] = {
        "layer": [shortened(layer.name) for layer in report.layers],
        "kind": [layer.kind for layer in report.layers],
        "precision": [layer.precision for layer in report.layers],
        "weights": [_range(layer.weight_range) for layer in report.layers],
        "activations": [_range(layer.activation_range) for layer in report.layers],
        "SQNR, dB": [number(layer.sqnr, 1) for layer in report.layers],
        "of outputs, dB": [number(layer.output_sqnr, 1) for layer in report.layers],
        "latency": [_share(layer.latency) for layer in report.layers],
        "cost of float": [_share(layer.cost) for layer in report.layers],
        "": [shortened(layer.note) for layer in report.layers],
    }
    shown = {heading: cells for heading, cells in columns.items() if any(cell not in ("", "–") for cell in cells)}
    if shown:
        table(list(shown), list(zip(*shown.values(), strict=True)), width=200)


def _range(values: tuple[float, float] | None) -> str:
    return "–" if values is None else f"{values[0]:.3g}..{values[1]:.3g}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def loss(drop: float | None) -> str:
    """A drop of a score: a small one in two digits, not as a row of zeros."""
    return number(drop, 4) if drop is None or not 0 < abs(drop) < 0.001 else f"{drop:.2g}"


def trail(report: QuantizationReport) -> None:
    """The configurations that quantization tried, one a row."""
    rows = [
        [
            trial.what,
            ("~" if trial.simulated else "") + loss(trial.drop),
            str(len(trial.left) or "–"),
            ", ".join(f"{ratio:.2f} × {case}" for case, ratio in trial.latency.items()) or "–",
            size(trial.size),
            trial.verdict,
        ]
        for trial in report.trials
    ]
    if rows:
        table(["tried", "drop", "layers left", "latency", "size", ""], rows)
    if any(trial.simulated for trial in report.trials):
        click.echo("  ~: quantization simulated in the model it was made from")


def warnings(report: QuantizationReport) -> None:
    for line in report.warnings:
        click.echo(f"  warning: {line}")
