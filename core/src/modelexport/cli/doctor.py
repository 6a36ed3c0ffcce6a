"""mx doctor"""

from __future__ import annotations

import click

from . import COMMANDS, shared
from .show import tables


@click.command(name="doctor", epilog=shared.examples("mx doctor", "mx doctor --json"))
@click.pass_context
@shared.standard_options
def command(ctx: click.Context, as_json: bool) -> None:
    """Check Python, plugins and what each verb needs, with the command that fixes each gap.

    Ends with exit code 1 when a plugin is broken; a plugin that is merely not installed is no fault.
    """
    from ..plugins import doctor

    report = doctor.examine(COMMANDS)
    if as_json:
        tables.as_json(report.to_json())
    else:
        tables.columns([["", ""], *([key, value] for key, value in report.environment.items())])
        for title, rows in report.kinds.items():
            if rows:
                click.echo(f"\n{title}")
                tables.columns([["  " + row.name, row.status, row.version, row.note] for row in rows])
    ctx.exit(1 if report.broken else 0)
