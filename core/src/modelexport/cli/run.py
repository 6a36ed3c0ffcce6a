"""mx run"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..plugins.known import EXAMPLE
from . import shared
from .show import tables

if TYPE_CHECKING:
    from ..contract.artifacts import Artifact
    from ..contract.sessions import Session
    from ..contract.tensors import Arrays


@click.command(
    epilog=shared.examples(
        f"mx run build/my-bert.{EXAMPLE} --text 'A cat sits on the mat.' --text 'A dog barks.'",
        f"mx run build/net.{EXAMPLE} --input inputs.npz --output outputs.npz",
        f"mx run build/net.{EXAMPLE} --input x=0.5 -k threads=2",
        f"mx run build/vit.{EXAMPLE} --image cat.jpg",
    )
)
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--input", "inputs", multiple=True, metavar="FILE|NAME=VALUE",
              help="A .npz or .json of arrays by input name, or one input as NAME=VALUE "
              "(a number fills it, a JSON list is it, a .npy file holds it).")  # fmt: skip
@click.option(
    "--text", "texts", multiple=True, help="A text for the artifact's own tokenizer; repeat for a batch."
)
@click.option("--context", "contexts", multiple=True,
              help="The passage that each --text is a question about; repeat for one each.")  # fmt: skip
@click.option("--image", "images", multiple=True, type=click.Path(path_type=Path),
              help="An image for the artifact's own preprocessing; repeat for a batch.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), help="Write the outputs to this .npz or .json.")
@click.option(
    "-k", "pairs", multiple=True, metavar="KEY=VALUE", help="Option of the runtime; `-k help` lists them."
)
@shared.standard_options
@shared.working
def command(
    artifact: Path,
    inputs: tuple[str, ...],
    texts: tuple[str, ...],
    contexts: tuple[str, ...],
    images: tuple[Path, ...],
    output: Path | None,
    pairs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run ARTIFACT once and print its outputs."""
    from ..contract import options
    from ..data import answers, run_inputs
    from ..plugins import calls
    from ..store import manifest, versions

    if "help" in pairs:
        shared.artifact_help(artifact, "run")
        return
    values = options.parse_pairs(pairs)
    if contexts and not texts:
        raise click.UsageError("--context is the passage of a --text, and none is given")
    run_inputs.check_output(output)
    asked = run_inputs.asked(texts, contexts)
    notes: list[str] = []

    def opened() -> tuple[Artifact, Arrays, Session]:
        loaded = manifest.load(artifact)
        notes.clear()
        given = run_inputs.gather(loaded, inputs, asked, images, notes.append)
        return loaded, given, calls.open_session(loaded, values)

    loaded, arrays, session = versions.steady(artifact, opened, undo=lambda all_of_it: all_of_it[2].close())
    with session:
        for note in (*notes, session.note):
            if note:
                click.echo(note, err=True)
        outputs = session(arrays)
    if output is not None:
        run_inputs.write(outputs, output)
    if as_json:
        tables.as_json({name: array.tolist() for name, array in outputs.items()})
        return
    for name, array in outputs.items():
        click.echo(f"{name}: {array.dtype.name}{list(array.shape)} {run_inputs.preview(array)}")
    for line in answers.readable(loaded, outputs, asked or None):
        click.echo(line)
