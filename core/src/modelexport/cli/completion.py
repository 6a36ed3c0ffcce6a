"""mx completion"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from . import shared


@click.command(
    epilog=shared.examples(
        'eval "$(mx completion bash)"', "mx completion fish > ~/.config/fish/completions/mx.fish"
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "mx", "_MX_COMPLETE").source())
