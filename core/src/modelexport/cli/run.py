"""mx run"""

from __future__ import annotations

from pathlib import Path

import click

from ..known import EXAMPLE
from . import show


@click.command(
    epilog=show.examples(
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
@click.option("--context", help="The passage that each --text is a question about.")
@click.option("--image", "images", multiple=True, type=click.Path(path_type=Path),
              help="An image for the artifact's own preprocessing; repeat for a batch.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), help="Write the outputs to this .npz or .json.")
@click.option(
    "-k", "pairs", multiple=True, metavar="KEY=VALUE", help="Option of the runtime; `-k help` lists them."
)
@show.standard_options
def command(
    artifact: Path,
    inputs: tuple[str, ...],
    texts: tuple[str, ...],
    context: str | None,
    images: tuple[Path, ...],
    output: Path | None,
    pairs: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run ARTIFACT once and print its outputs."""
    from .. import api, feeds, options, plugins, preprocess

    loaded = api.load(artifact)
    if "help" in pairs:
        target = plugins.target(loaded.format).target
        show.option_help({loaded.format: target.options.get("run", options.NoOptions)})
        return
    feeds.check_output(output)
    given: list[preprocess.Text] = [(text, context) if context is not None else text for text in texts]
    arrays = feeds.gather(loaded, inputs, given, images)
    with api.open_session(loaded, options.parse_pairs(pairs)) as session:
        if note := session.details.get("note"):
            click.echo(note, err=True)
        outputs = session(arrays)
    if output is not None:
        feeds.write(outputs, output)
    if as_json:
        show.as_json({name: array.tolist() for name, array in outputs.items()})
        return
    for name, array in outputs.items():
        click.echo(f"{name}: {array.dtype.name}{list(array.shape)} {feeds.preview(array)}")
    for line in preprocess.readable(loaded, outputs, given or None):
        click.echo(line)
