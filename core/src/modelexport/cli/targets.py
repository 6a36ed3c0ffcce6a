"""mx targets"""

from __future__ import annotations

import click

from . import show


@click.command(epilog=show.examples("mx targets", "mx targets --json"))
@show.standard_options
def command(as_json: bool) -> None:
    """List every target: what it can do here, what it lacks, and how to install it."""
    from .. import doctor

    rows = doctor.targets()
    if as_json:
        show.as_json({"targets": [row.to_json() for row in rows]})
        return
    show.columns([["target", "status", "verbs", ""], *([r.name, r.status, r.verbs, r.note] for r in rows)])
