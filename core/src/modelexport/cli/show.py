"""What the subcommands print, and the options that they share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ..quantization import Report
    from ..types import Artifact

F = TypeVar("F", bound=Callable[..., Any])


def standard_options(function: F) -> F:
    """--json and --debug, on every command. `--debug` is read by `main`, which has the error in hand."""
    function = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")(
        function
    )
    return click.option("--debug", is_flag=True, expose_value=False, help="Show the whole trace of an error.")(
        function
    )


def calibration_options(function: F) -> F:
    """What a quantized copy is calibrated on, judged by, and may lose."""
    from ..accuracy import METRICS

    options = [
        click.option("--calibration", metavar="REF",
                     help="Real inputs: .npz, folder of images, .txt, .csv, .jsonl, folder of `datasets`, or "
                     "pkg.mod:iterator. A quarter of them is held out to judge the copy on."),
        click.option("--samples", default=128, show_default=True, help="Samples of it to take, at most."),
        click.option("--seed", default=0, show_default=True, help="Seed that draws the samples."),
        click.option("--column", help="Column of a table that holds the texts or images; two for pairs."),
        click.option("--metric", default=METRICS[0], show_default=True,
                     help=f"What is judged: {', '.join(METRICS)}, or {METRICS[0]}:OUTPUT for one output."),
        click.option("--evaluate", metavar="REF",
                     help="Your own score instead: file.py:score or pkg.mod:score, a function of a Session; "
                     "more is better."),
        click.option("--max-drop", type=float,
                     help="How much less than ARTIFACT itself the copy may score, such as 0.005."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def examples(*lines: str) -> str:
    """An epilog that click does not reflow."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def complete_targets(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from .. import known, plugins

    names = {*plugins.find(plugins.TARGETS), *known.TARGETS}
    return sorted(name for name in names if name.startswith(incomplete))


def complete_languages(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from .. import plugins

    names = {name for target in plugins.find(plugins.TARGETS) for name in plugins.target(target).target.snippets}
    return sorted(name for name in names if name.startswith(incomplete))


def as_json(value: Any) -> None:
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def columns(rows: Sequence[Sequence[str]]) -> None:
    """Plain aligned columns, for output that must appear at once; the last column is not padded."""
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(len(rows[0]) - 1)] if rows else []
    for row in rows:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*padded, row[-1]]).rstrip())


def table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None, width: int = 160
) -> None:
    """A table on stdout: the first column to the left, figures to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for index, heading in enumerate(headings):
        drawn.add_column(heading, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else width)
    console.print(drawn)


@contextmanager
def stages() -> Iterator[Callable[[str], None]]:
    """A progress line per stage on stderr when it is a terminal; nothing otherwise."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    import time

    from rich.console import Console

    console = Console(file=sys.stderr, highlight=False)  # the real one, whatever a stage redirects
    begun = time.monotonic()
    with console.status("starting") as status:
        last: list[tuple[str, float]] = []

        def stage(text: str) -> None:
            now = time.monotonic()
            if last:
                console.print(f"  [dim]{last[0][0]} ({now - last[0][1]:.1f} s)[/dim]")
            last[:] = [(text, now)]
            status.update(text)

        yield stage
        if last:
            console.print(f"  [dim]{last[0][0]} ({time.monotonic() - last[0][1]:.1f} s)[/dim]")
    console.print(f"  [dim]done in {time.monotonic() - begun:.1f} s[/dim]")


def size(count: float | None) -> str:
    """Bytes for people."""
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def verdict(artifact: Artifact) -> str:
    return {True: "verified", False: "not verified", "structure": "structure only"}[artifact.parity.verified]


def parity(artifact: Artifact) -> None:
    """The parity table of one artifact, and what there is to say about it."""
    found = artifact.parity
    if found.outputs:
        rows = [
            [
                str(row["name"]),
                "ok" if row["ok"] else row["problem"] or "over budget",
                f"{row['max_abs']:.2e}",
                f"{row['max_rel']:.2e}",
                f"{row['cosine']:.7f}",
                "–" if row["top1"] is None else f"{row['top1']:.3f}",
                f"{row['used'] * 100:.2g} %",
                str(row["case"]),
            ]
            for row in found.outputs
        ]
        table(["output", "", "max abs", "max rel", "cosine", "top-1", "of budget", "worst case"], rows)
        names = ("atol", "rtol", "noise", "min_cosine", "min_equal")
        budgets = {tuple(row.get(name, 1.0) for name in names) for row in found.outputs}
        for atol, rtol, noise, cosine, equal in sorted(budgets):
            exact = f", {equal:.0%} of integers equal" if equal < 1 else ""
            click.echo(f"  budget: {atol:g} + {rtol:g}·|r| + {noise:g}·max|r|, cosine ≥ {cosine:g}{exact}")
    if found.cases:
        click.echo(f"  {len(found.cases)} cases, each called twice: {', '.join(found.cases)}")
    for reason in dict.fromkeys(found.skipped.values()):
        left = ", ".join(repr(case) for case, why in found.skipped.items() if why == reason)
        click.echo(f"  left out {left}: {reason}")
    if found.reason:
        click.echo(f"  {found.reason}")


def notes(artifact: Artifact) -> None:
    """What the target has to say about the artifact it made."""
    for line in artifact.details.get("notes", ()):
        click.echo(f"  note: {line}")


def compiled(artifact: Artifact) -> None:
    """The layers of a compiled model, and how many there are of each kind and precision."""
    from collections import Counter

    from ..charts import shortened
    from ..layers import by_kind, layers_of

    rows = layers_of(artifact)
    computing = [row for row in rows if row.precision]
    if not computing:
        return
    table(
        ["layer", "kind", "precision", "from"],
        [[shortened(row.name), row.kind, row.precision, shortened(row.source)] for row in computing],
        width=200,
    )
    precisions = sorted({row.precision for row in computing})
    counts = [[kind, *(str(of[p] or "–") for p in precisions)] for kind, of in by_kind(computing).items()]
    total = ["all", *(str(sum(row.precision == p for row in computing)) for p in precisions)]
    table(["kind", *precisions], [*counts, total])
    if others := Counter(row.kind for row in rows if not row.precision):
        counted = ", ".join(f"{count} {kind}" for kind, count in others.most_common())
        click.echo(f"  besides, what computes nothing: {counted}")


def score(report: Report) -> None:
    """What a quantized copy scored, against the artifact it was made from."""
    found = report.score
    if not found:
        click.echo("  accuracy: not measured, this machine can't run the model")
        return
    own = f" ({found['baseline']:.4f} before)" if found["baseline"] != 1 else ""
    allowed = f" (max {found['max_drop']:g})" if found["max_drop"] is not None else ""
    where = f" on {found['samples']} {found['data']}" if found["data"] != found["metric"] else ""
    click.echo(f"  {found['metric']} {number(found['score'], 4)}{own}{where}, "
               f"drop {loss(found['drop'])}{allowed}")  # fmt: skip


def quantization_line(artifact: Artifact) -> None:
    """The report in one line; `mx inspect --quantization` shows all of it."""
    from collections import Counter

    from ..quantization import report_of

    report = report_of(artifact)
    counts = Counter(layer.precision for layer in report.layers).most_common()
    layers = ", ".join(f"{count} layers {precision}" for precision, count in counts)
    lost = f"{report.score['metric']} {number(report.score['score'], 4)}" if report.score else ""
    parts = [report.mode, layers, lost, f"{len(report.warnings)} warnings" if report.warnings else ""]
    click.echo(f"  quantization: {'; '.join(filter(None, parts))} (--quantization shows the layers)")


def figures(report: Report) -> None:
    """Every metric of every output."""
    rows = [
        [
            output,
            number(found["cosine"], 5),
            number(found["mean cosine"], 5),
            number(found["sqnr"], 1),
            number(found.get("top1"), 3),
        ]
        for output, found in report.score.get("figures", {}).items()
    ]
    if rows:
        table(["output", "lowest cosine", "mean cosine", "SQNR, dB", "top-1"], rows)


def layers(report: Report) -> None:
    """A row for each layer, its name shortened, without the columns that nothing was measured for."""
    from ..charts import shortened

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


def number(value: float | None, digits: int) -> str:
    """A figure that may not be there."""
    return "–" if value is None else f"{value:.{digits}f}"


def quantized(artifact: Artifact) -> None:
    """What became of a quantized artifact: its score, the trail, and warnings."""
    from ..quantization import report_of

    report = report_of(artifact)
    score(report)
    trail(report)
    warnings(report)


def trail(report: Report) -> None:
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


def warnings(report: Report) -> None:
    for line in report.warnings:
        click.echo(f"  warning: {line}")


def summary(artifact: Artifact) -> dict[str, Any]:
    """The artifact for --json: its path, and its manifest."""
    from .. import manifest

    return {"path": str(artifact.path), **manifest.to_json(artifact)}


def option_help(kinds: Mapping[str, type], verb: str = "export") -> None:
    """`-k help`: every option of every target named, with type, default and what it is for."""
    from ..options import describe

    for owner, kind in kinds.items():
        rows = [[d.key, d.type, d.default or "–", d.help] for d in describe(kind)]
        step = "" if verb == "export" else f" to {verb}"
        click.echo(f"options of target {owner!r}{step} (-k key=value):")
        columns([["  " + row[0], *row[1:]] for row in [["option", "type", "default", ""], *rows]])
