"""mx inspect"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..plugins.known import EXAMPLE
from . import shared
from .show import artifacts, quantization, tables

if TYPE_CHECKING:
    from ..contract.artifacts import Artifact


@click.command(
    epilog=shared.examples(
        f"mx inspect build/my-bert.{EXAMPLE}",
        f"mx inspect build/my-bert.{EXAMPLE} --json",
        f"mx inspect build/my-bert.quantized.{EXAMPLE} --quantization --plot layers.png",
    )
)
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--quantization", "of_quantization", is_flag=True, help="Show what quantization did instead, layer by layer."
)
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE",
              help="Draw into this .png, .svg or .pdf: the kinds of layers of a compiled model or, with "
              "--quantization, every layer.")  # fmt: skip
@shared.standard_options
def command(artifact: Path, of_quantization: bool, plot: Path | None, as_json: bool) -> None:
    """Show ARTIFACT's inputs, outputs, lineage, files and parity, after checking its files' sha256."""
    from ..store import manifest

    if of_quantization:
        _quantization(artifact, plot, as_json)
        return
    found = manifest.load(artifact)
    if plot is not None:
        _draw(found, plot)
    if as_json:
        tables.as_json(artifacts.summary(found))
        return
    click.echo(
        f"{found.path}  {found.format}  {found.precision}  {tables.size(found.size)}  {artifacts.verdict(found)}"
    )
    tables.table(["input", "declaration"], [[spec.name, str(spec)] for spec in found.inputs])
    tables.table(["output", "declaration"], [[spec.name, str(spec)] for spec in found.outputs])
    artifacts.parity(found)
    _lineage(found)
    for key, value in found.details.items():
        if value not in ("", [], {}):
            click.echo(f"  {key}: {_plain(value)}")
    if found.quantization is not None:
        quantization.one_line(found)
    artifacts.notes(found)
    artifacts.layers(found)
    tables.table(
        ["file", "size", "sha256"],
        [[file.path, tables.size(file.size), file.sha256[:16] + "…"] for file in found.files],
    )
    if plot is not None:
        click.echo(f"  drawn: {plot}")


def _draw(artifact: Artifact, plot: Path) -> None:
    from ..contract.compiled import by_kind
    from .show import charts

    charts.check(plot)
    if not (rows := [layer for layer in artifact.layers if layer.precision]):
        raise click.UsageError(
            f"{artifact.path} lists no layers: --plot goes with --quantization, or a compiled model"
        )
    charts.kinds(by_kind(rows), plot, f"{artifact.path.name}: {len(rows)} layers")


def _quantization(artifact: Path, plot: Path | None, as_json: bool) -> None:
    from ..store import manifest
    from .show import charts

    if plot is not None:
        charts.check(plot)
    found = manifest.load(artifact)
    report = found.quantization_report()
    if plot is not None:
        charts.layers(report, plot, f"{found.path.name}: {report.mode}")
    if as_json:
        tables.as_json(report.to_json())
        return
    click.echo(f"{found.path}  {found.precision}  {tables.size(found.size)}  {artifacts.verdict(found)}")
    settings = {"mode": report.mode, **report.settings}
    click.echo(f"  settings: {', '.join(f'{key}={_plain(value)}' for key, value in settings.items())}")
    quantization.score(report)
    quantization.figures(report)
    quantization.layers(report)
    quantization.trail(report)
    quantization.warnings(report)
    if plot is not None:
        click.echo(f"  drawn: {plot}")


def _lineage(artifact: Artifact) -> None:
    for step in artifact.lineage:
        click.echo(f"\n{step.verb} → {step.target}, from {step.source.get('ref', 'unknown')}")
        for title, values in (("options", step.options), ("tools", step.tools)):
            if values:
                click.echo(f"  {title}: {', '.join(f'{key}={value}' for key, value in values.items())}")


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
