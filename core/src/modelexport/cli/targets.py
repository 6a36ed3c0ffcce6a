"""mx targets"""

from __future__ import annotations

import click

from . import shared
from .show import tables


@click.command(epilog=shared.examples("mx targets", "mx targets --json"))
@shared.standard_options
def command(as_json: bool) -> None:
    """List every target: what it can do here, what it lacks, and how to install it."""
    from ..plugins import doctor

    rows = doctor.targets()
    if as_json:
        tables.as_json({"targets": [row.to_json() for row in rows]})
        return
    tables.columns([["target", "status", "verbs", ""], *([r.name, r.status, r.verbs, r.note] for r in rows)])
