"""mx inspect"""

from __future__ import annotations

from pathlib import Path

import click

from ..known import EXAMPLE
from . import show


@click.command(
    epilog=show.examples(f"mx inspect build/my-bert.{EXAMPLE}", f"mx inspect build/my-bert.{EXAMPLE} --json")
)
@click.argument("artifact", type=click.Path(path_type=Path))
@show.standard_options
def command(artifact: Path, as_json: bool) -> None:
    """Show ARTIFACT's inputs, outputs, lineage, files and parity, after checking its files' sha256."""
    from .. import api

    found = api.load(artifact)
    if as_json:
        show.as_json(show.summary(found))
        return
    click.echo(f"{found.path}  {found.format}  {found.precision}  {show.size(found.size)}  {show.verdict(found)}")
    show.table(["input", "declaration"], [[spec.name, str(spec)] for spec in found.inputs])
    show.table(["output", "declaration"], [[spec.name, str(spec)] for spec in found.outputs])
    show.parity(found)
    for step in found.lineage:
        click.echo(f"\n{step.verb} → {step.target}, from {step.source.get('ref', 'unknown')}")
        for title, values in (("options", step.options), ("tools", step.tools)):
            if values:
                click.echo(f"  {title}: {', '.join(f'{key}={value}' for key, value in values.items())}")
    for key, value in found.details.items():
        if key != "notes":
            click.echo(f"  {key}: {_plain(value)}")
    show.notes(found)
    show.table(
        ["file", "size", "sha256"],
        [[file.path, show.size(file.size), file.sha256[:16] + "…"] for file in found.files],
    )


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
