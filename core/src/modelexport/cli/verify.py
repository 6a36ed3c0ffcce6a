"""mx verify"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..known import EXAMPLE
from . import show


@click.command(
    epilog=show.examples(
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
@show.standard_options
def command(artifact: Path, pairs: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Run the parity gate on ARTIFACT in a fresh process, and record the result in its manifest.

    PyTorch is not needed unless --source is given.
    """
    from .. import api, options

    with show.stages() as progress:
        checked = api.verify(artifact, options=options.parse_pairs(pairs), progress=progress, **given)
    if as_json:
        show.as_json(show.summary(checked))
        return
    click.echo(f"{checked.path}  {show.verdict(checked)}")
    show.parity(checked)
