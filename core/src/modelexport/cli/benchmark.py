"""mx benchmark"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..known import EXAMPLE
from . import show

if TYPE_CHECKING:
    from ..bench import BenchReport, Figures


@click.command(
    epilog=show.examples(
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
@click.option("--weights", type=click.Path(), help="Weights for the baseline source.")
@click.option("--task", help="Task of the baseline source.")
@click.option("-k", "pairs", multiple=True, metavar="KEY=VALUE", help="Option of the runtimes.")
@show.standard_options
def command(
    artifacts: tuple[Path, ...],
    dims: tuple[str, ...],
    pairs: tuple[str, ...],
    weights: str | None,
    task: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Time every ARTIFACT, in fresh processes that take turns, and compare with the baseline."""
    from .. import bench, options
    from ..errors import OptionError

    try:
        sizes = {name: int(size) for name, size in options.parse_pairs(dims).items()}
    except ValueError as error:
        raise OptionError(f"can't read --dim: {error}", "write --dim batch=8") from error
    load = {key: value for key, value in (("weights", weights), ("task", task)) if value}
    with show.stages() as progress:
        report = bench.benchmark(
            artifacts, dims=sizes, options=options.parse_pairs(pairs), load=load, progress=progress, **given
        )
    if as_json:
        show.as_json(report.to_json())
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
    show.table(headings, [_row(figures) for figures in report.figures])
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
        show.size(figures.peak_rss),
        show.size(figures.file_size),
        ratio,
        str(figures.runs),
    ]
