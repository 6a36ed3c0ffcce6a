"""mx benchmark"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..plugins.known import EXAMPLE
from . import shared
from .show import progress, tables

if TYPE_CHECKING:
    from ..bench.report import BenchReport, Figures


@click.command(
    epilog=shared.examples(
        f"mx benchmark build/my-bert.{EXAMPLE} --baseline ./my-bert --dim batch=1 --dim sequence=128",
        "mx benchmark build/my-bert.* --threads 2 --json",
        f"mx benchmark build/net.{EXAMPLE} --baseline nets.py:classifier --compile --runs 100",
    )
)
@click.argument("artifacts", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--baseline", help="Artifact or source to compare with; a source runs eagerly in PyTorch.")
@click.option("--compile", "compile_baseline", is_flag=True, help="Add the baseline source under torch.compile.")
@click.option("--runs", default=30, show_default=True, help="Timed calls of each, at least.")
@click.option("--seconds", default=3.0, show_default=True, help="Timed seconds of each, at least.")
@click.option("--warmup", default=5, show_default=True, help="Calls before the first timed one.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of each; all cores by default.")
@click.option("--dim", "dims", multiple=True, metavar="NAME=SIZE", help="Size of a dynamic dim.")
@click.option(
    "--input", "input_file", type=click.Path(path_type=Path), help="Inputs (.npz) instead of random ones."
)
@click.option("--weights", type=click.Path(path_type=Path), help="Weights for the baseline source.")
@click.option("--task", help="Task of the baseline source.")
@click.option("-k", "pairs", multiple=True, metavar="KEY=VALUE", help="Option of the runtimes.")
@shared.standard_options
@shared.working
def command(
    artifacts: tuple[Path, ...],
    baseline: str | None,
    compile_baseline: bool,
    runs: int,
    seconds: float,
    warmup: int,
    threads: int | None,
    dims: tuple[str, ...],
    input_file: Path | None,
    weights: Path | None,
    task: str | None,
    pairs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Time every ARTIFACT, in fresh processes that take turns, and compare with the baseline."""
    from .. import api
    from ..contract import options
    from ..errors import OptionError

    try:
        sizes = {name: int(size) for name, size in options.parse_pairs(dims).items()}
    except ValueError as error:
        raise OptionError(f"can't read --dim: {error}", "write --dim batch=8") from error
    with progress.shown() as show:
        report = api.benchmark(
            artifacts,
            baseline=baseline,
            compile_baseline=compile_baseline,
            runs=runs,
            seconds=seconds,
            warmup=warmup,
            threads=threads,
            dims=sizes,
            input_file=input_file,
            options=options.parse_pairs(pairs),
            weights=weights,
            task=task,
            progress=show,
        )
    if as_json:
        tables.as_json(report.to_json())
        return
    _print(report)


def _print(report: BenchReport) -> None:
    headings = [
        "",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "samples/s",
        "load ms",
        "peak RSS",
        "size",
        "× baseline",
        "runs",
    ]
    tables.table(headings, [_row(figures) for figures in report.figures])
    sizes = ", ".join(f"{name}={size}" for name, size in report.dims.items()) or "fixed shapes"
    click.echo(f"  {sizes}; {report.threads} threads each; {report.turns} turns; {report.environment['cpu']}")
    if report.baseline:
        click.echo(
            "  × baseline: median over turns of this p50 / the baseline's, with quartiles; below 1 is faster"
        )


def _row(figures: Figures) -> list[str]:
    ratio = "–"
    if figures.ratio is not None:
        ratio = f"{figures.ratio:.3f} ({figures.ratio_low:.3f}–{figures.ratio_high:.3f})"
    return [
        figures.name,
        f"{figures.p50_ms:.3f}",
        f"{figures.p90_ms:.3f}",
        f"{figures.p99_ms:.3f}",
        f"{figures.throughput:.1f}",
        f"{figures.load_ms:.0f}",
        tables.size(figures.peak_rss),
        tables.size(figures.file_size),
        ratio,
        str(figures.runs),
    ]
