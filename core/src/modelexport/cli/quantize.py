"""mx quantize"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import show


@click.command(
    epilog=show.examples(
        "mx quantize build/net.TARGET",
        "mx quantize build/net.TARGET --calibration texts.txt --max-drop 0.005",
        "mx quantize build/net.TARGET --mode static --calibration photos/ --samples 300 --metric top1",
        "mx quantize build/net.TARGET --evaluate score.py:accuracy --max-drop 0.01",
        "mx quantize build/net.TARGET -k help",
    )
)
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path),
              help="Folder to write; NAME.quantized.TARGET beside ARTIFACT by default.")  # fmt: skip
@click.option("--mode", help="How to quantize: the same as -k mode=MODE.")
@click.option("--preset", help="Hardware to quantize for: the same as -k preset=NAME.")
@click.option("-k", "pairs", multiple=True, metavar="KEY=VALUE",
              help="Option of the target; `-k help` lists them.")  # fmt: skip
@show.calibration_options
@click.option("--tolerance", help="Parity budget: a number, or atol=…,rtol=…,noise=…,cosine=…,equal=….")
@click.option("--no-verify", is_flag=True, help="Skip the parity gate; the manifest then says so.")
@show.standard_options
def command(
    artifact: Path,
    out: Path | None,
    mode: str | None,
    preset: str | None,
    pairs: tuple[str, ...],
    no_verify: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Write a quantized copy of ARTIFACT, measure what it lost, and verify it."""
    from .. import api, manifest, options, plugins

    if "help" in pairs:
        found = plugins.require(api.load(artifact).format, "quantize").target
        show.option_help({found.name: found.options.get("quantize", options.NoOptions)})
        return
    short = [f"{key}={value}" for key, value in (("mode", mode), ("preset", preset)) if value is not None]
    with show.stages() as progress:
        made = api.quantize(
            artifact,
            out,
            options=options.parse_pairs([*short, *pairs]),
            verify=not no_verify,
            progress=progress,
            **given,
        )
    if as_json:
        show.as_json(show.summary(made))
        return
    before = manifest.read(artifact, check_files=False)
    share = f"{made.size / before.size:.2f} × {before.path.name}"
    click.echo(f"{made.path}  {made.precision}  {show.size(made.size)} ({share})  {show.verdict(made)}")
    show.quantized(made)
    show.notes(made)
    show.parity(made)
