"""mx optimize"""

from __future__ import annotations

from pathlib import Path

import click

from . import shared
from .show import artifacts, progress, tables


@click.command(
    epilog=shared.examples(
        "mx optimize build/net.TARGET",
        "mx optimize build/net.TARGET -o build/net.fast.TARGET --tolerance 1e-4",
        "mx optimize build/net.TARGET -k help",
    )
)
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path),
              help="Folder to write; NAME.optimized.TARGET beside ARTIFACT by default.")  # fmt: skip
@click.option("-k", "pairs", multiple=True, metavar="KEY=VALUE",
              help="Option of the target; `-k help` lists them.")  # fmt: skip
@click.option("--tolerance", help="Parity budget: a number, or atol=…,rtol=…,noise=…,cosine=….")
@click.option("--no-verify", is_flag=True, help="Skip the parity gate; the manifest then says so.")
@shared.standard_options
@shared.working
def command(
    artifact: Path,
    out: Path | None,
    pairs: tuple[str, ...],
    tolerance: str | None,
    no_verify: bool,
    as_json: bool,
) -> None:
    """Write an optimized copy of ARTIFACT, and verify it against the same golden data."""
    from .. import api
    from ..contract import options

    if "help" in pairs:
        shared.artifact_help(artifact, "optimize")
        return
    with progress.shown() as show:
        result = api.optimize(
            artifact,
            out,
            options=options.parse_pairs(pairs),
            tolerance=tolerance,
            verify=not no_verify,
            progress=show,
        )
    if as_json:
        tables.as_json(artifacts.summary(result))
        return
    click.echo(f"{result.path}  {tables.size(result.size)}  {artifacts.verdict(result)}")
    artifacts.parity(result)
    artifacts.notes(result)
