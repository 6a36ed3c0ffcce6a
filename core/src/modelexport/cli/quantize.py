"""mx quantize"""

from __future__ import annotations

from pathlib import Path

import click

from . import shared
from .show import artifacts, progress, quantization, tables


@click.command(
    epilog=shared.examples(
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
@shared.calibration_options
@click.option("--tolerance", help="Parity budget: a number, or atol=…,rtol=…,noise=…,cosine=…,equal=….")
@click.option("--no-verify", is_flag=True, help="Skip the parity gate; the manifest then says so.")
@shared.standard_options
@shared.working
def command(
    artifact: Path,
    out: Path | None,
    mode: str | None,
    preset: str | None,
    pairs: tuple[str, ...],
    calibration: str | None,
    samples: int,
    seed: int,
    column: str | None,
    metric: str,
    evaluate: str | None,
    max_drop: float | None,
    tolerance: str | None,
    no_verify: bool,
    as_json: bool,
) -> None:
    """Write a quantized copy of ARTIFACT, measure what it lost, and verify it."""
    from .. import api
    from ..contract import options
    from ..store import manifest

    if "help" in pairs:
        shared.artifact_help(artifact, "quantize")
        return
    short = [f"{key}={value}" for key, value in (("mode", mode), ("preset", preset)) if value is not None]
    with progress.shown() as show:
        result = api.quantize(
            artifact,
            out,
            options=options.parse_pairs([*short, *pairs]),
            calibration=calibration,
            samples=samples,
            seed=seed,
            column=column,
            metric=metric,
            evaluate=evaluate,
            max_drop=max_drop,
            tolerance=tolerance,
            verify=not no_verify,
            progress=show,
        )
    if as_json:
        tables.as_json(artifacts.summary(result))
        return
    before = manifest.read(artifact, check_files=False)
    share = f"{result.size / before.size:.2f} × {before.path.name}"
    click.echo(
        f"{result.path}  {result.precision}  {tables.size(result.size)} ({share})  {artifacts.verdict(result)}"
    )
    quantization.outcome(result)
    artifacts.notes(result)
    artifacts.parity(result)
