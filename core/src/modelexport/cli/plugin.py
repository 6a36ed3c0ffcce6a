"""mx plugin"""

from __future__ import annotations

from pathlib import Path

import click

from . import shared
from .show import tables


@click.group(name="plugin", epilog=shared.examples("mx plugin new mytarget", "mx plugin check mytarget"))
def command() -> None:
    """Start a target plugin of your own, or check one against the contract that every target keeps."""


@command.command(
    epilog=shared.examples(
        "mx plugin new mytarget --consumes module -o ~/code", "mx plugin new mytarget --with quantize,source"
    )
)
@click.argument("name")
@click.option("--consumes", default="captured", show_default=True,
              help="Format it takes: captured, module (the live nn.Module), or a target's name.")  # fmt: skip
@click.option(
    "--with",
    "parts",
    metavar="PARTS",
    multiple=True,
    help="What else it has: optimize, quantize, snippets, source; separated by commas, or one after another.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path(), help="Folder to write into.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the whole trace of an error.")
def new(name: str, consumes: str, parts: tuple[str, ...], out: Path) -> None:
    """Write a distribution modelexport-NAME that installs, with tests that say what is left to do."""
    from .. import scaffold

    folder = scaffold.write(name, consumes, out, [part.strip() for text in parts for part in text.split(",")])
    for doubt in scaffold.doubts(consumes):
        click.echo(f"note: {doubt}", err=True)
    click.echo(f"{folder}: now")
    for line in scaffold.next_steps(name, folder):
        click.echo(f"  {line}")


@command.command(
    epilog=shared.examples("mx plugin check mytarget", "mx --plugin mytarget.py plugin check mytarget")
)
@click.argument("name")
@click.option("--tests", type=click.Path(path_type=Path),
              help="Contract test with the target's quirks; "
              "tests/contract/test_contract.py if it is there.")  # fmt: skip
@shared.standard_options
@click.pass_context
def check(ctx: click.Context, name: str, tests: Path | None, as_json: bool) -> None:
    """Run the compliance kit on the target NAME, and print its row for the support table."""
    from ..testing import report

    result = report.run(name, tests)
    if as_json:
        tables.as_json(result.to_json())
    else:
        for line in result.lines():
            click.echo(line)
    ctx.exit(0 if result.passed else 1)
