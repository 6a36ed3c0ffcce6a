"""mx verify"""

from __future__ import annotations

from pathlib import Path

import click

from ..plugins.known import EXAMPLE
from . import shared
from .show import artifacts, progress, tables


@click.command(
    epilog=shared.examples(
        f"mx verify build/my-bert.{EXAMPLE}",
        f"mx verify build/my-bert.{EXAMPLE} --source ./my-bert --sample real.npz",
        f"mx verify build/net.{EXAMPLE} -k providers=cuda",
    )
)
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--source", help="Compare with the model itself instead of the artifact's golden data.")
@click.option("--sample", type=click.Path(path_type=Path), help="Real inputs (.npz), with --source.")
@click.option("--weights", type=click.Path(path_type=Path), help="Weights for the source.")
@click.option("--task", help="Task of the source.")
@click.option("--tolerance", help="Parity budget: a number, or atol=…,rtol=…,noise=…,cosine=….")
@click.option("--allow-pickle", is_flag=True, help="Unpickle weights: runs code that the file holds.")
@click.option("--allow-download", is_flag=True, help="Let a source plugin download the source.")
@click.option("-k", "pairs", multiple=True, metavar="KEY=VALUE", help="Option of the runtime.")
@shared.standard_options
@shared.working
def command(
    artifact: Path,
    source: str | None,
    sample: Path | None,
    weights: Path | None,
    task: str | None,
    tolerance: str | None,
    allow_pickle: bool,
    allow_download: bool,
    pairs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run the parity gate on ARTIFACT in a fresh process, and record the result in its manifest.

    PyTorch is not needed unless --source is given.
    """
    from .. import api
    from ..contract import options

    with progress.shown() as show:
        checked = api.verify(
            artifact,
            source=source,
            sample=sample,
            tolerance=tolerance,
            options=options.parse_pairs(pairs),
            weights=weights,
            task=task,
            allow_pickle=allow_pickle,
            allow_download=allow_download,
            progress=show,
        )
    if as_json:
        tables.as_json(artifacts.summary(checked))
        return
    click.echo(f"{checked.path}  {artifacts.verdict(checked)}")
    artifacts.parity(checked)
