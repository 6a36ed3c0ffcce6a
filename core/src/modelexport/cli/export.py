"""mx export"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..plugins.known import EXAMPLE
from . import shared
from .show import artifacts, progress, quantization, tables

if TYPE_CHECKING:
    from ..contract.artifacts import Artifact
    from ..contract.progress import Event
    from ..contract.target import Target


@click.command(
    epilog=shared.examples(
        f"mx export ./my-bert -t {EXAMPLE}",
        f"mx export nets.py:classifier -t {EXAMPLE} --input 'x:float32[batch=1..32,3,224,224]'",
        f"mx export package.module:factory -t {EXAMPLE} --weights model.safetensors -k opset=20",
        f"mx export model.pt2 -t {EXAMPLE} --sample real.npz --tolerance 1e-4",
        f"mx export ./my-bert -t {EXAMPLE} --precision int8 --calibration texts.txt --max-drop 0.005",
        f"mx export -t {EXAMPLE} -k help",
    )
)
@click.argument("source", required=False)
@click.option("-t", "--target", "targets", multiple=True, required=True, shell_complete=shared.complete_targets,
              help="Target to export to; give it several times for several.")  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("build"), show_default=True,
              help="Folder in which NAME.TARGET is written.")  # fmt: skip
@click.option("--name", help="Name of the artifact; the source's own by default.")
@click.option("-k", "pairs", multiple=True, metavar="KEY=VALUE", help="Option of a target; `-k help` lists them.")
@click.option("--precision", metavar="PRECISION",
              help="Go on to this precision (fp16, bf16, int8, int4…): optimize and quantize as the target does "
              "that. Each step is an artifact; finished ones are reused.")  # fmt: skip
@shared.calibration_options
@click.option("--input", "inputs", multiple=True, metavar="DECLARATION",
              help="Declare an input: NAME:DTYPE[DIM,…], where a DIM is a size, a name, or NAME=LOW..HIGH; "
              "add =LOW..HIGH for the values it may take, or =mask.")  # fmt: skip
@click.option("--dim", "dims", multiple=True, metavar="[TARGET.]NAME=SIZE",
              help="Hold a dynamic dim at a SIZE or in LOW..HIGH[/STEP], for every target or one.")  # fmt: skip
@click.option("--snippet", multiple=True, metavar="LANGUAGE", shell_complete=shared.complete_languages,
              help="Write code that loads and runs the model into the artifact: cpp, swift….")  # fmt: skip
@click.option("--sample", type=click.Path(path_type=Path), help="Real inputs (.npz) for the parity gate.")
@click.option("--weights", type=click.Path(path_type=Path), help="Weights to load into what the factory returns.")
@click.option("--task", help="Task of a Hugging Face model; its architecture's own by default.")
@click.option("--register", multiple=True, metavar="MODULE", help="Module to import first: custom operators.")
@click.option("--tolerance", help="Parity budget: a number, or atol=…,rtol=…,noise=…,cosine=….")
@click.option("--no-verify", is_flag=True, help="Skip the parity gate; the manifest then says so.")
@click.option("--allow-pickle", is_flag=True, help="Unpickle weights: runs code that the file holds.")
@click.option("--allow-download", is_flag=True, help="Let a source plugin download a model.")
@shared.standard_options
@shared.working
def command(
    source: str | None,
    targets: tuple[str, ...],
    out: Path,
    name: str | None,
    pairs: tuple[str, ...],
    precision: str | None,
    calibration: str | None,
    samples: int,
    seed: int,
    column: str | None,
    metric: str,
    evaluate: str | None,
    max_drop: float | None,
    inputs: tuple[str, ...],
    dims: tuple[str, ...],
    snippet: tuple[str, ...],
    sample: Path | None,
    weights: Path | None,
    task: str | None,
    register: tuple[str, ...],
    tolerance: str | None,
    no_verify: bool,
    allow_pickle: bool,
    allow_download: bool,
    as_json: bool,
) -> None:
    """Export SOURCE to every target, and verify each copy in a fresh process.

    SOURCE is file.py:factory, package.module:factory, model.pt2, the folder of an artifact, or anything an
    installed source plugin loads: a Hugging Face folder or cached id, an existing model file.
    """
    from .. import api
    from ..contract import options

    if "help" in pairs:
        _help(targets, precision)
        return
    if source is None:
        raise click.UsageError("SOURCE is missing: which model?")
    reused: list[str] = []
    with progress.shown() as show:

        def told(event: Event) -> None:
            if event.reused is not None:
                reused.append(str(event))
            show(event)

        results = api.export(
            source,
            targets,
            out,
            name=name,
            options=options.parse_pairs(pairs),
            inputs=inputs,
            dims=dims,
            sample=sample,
            weights=weights,
            task=task,
            register=register,
            snippet=snippet,
            tolerance=tolerance,
            verify=not no_verify,
            allow_pickle=allow_pickle,
            allow_download=allow_download,
            precision=precision,
            calibration=calibration,
            samples=samples,
            seed=seed,
            column=column,
            metric=metric,
            evaluate=evaluate,
            max_drop=max_drop,
            progress=told,
        )
    if as_json:
        tables.as_json({"artifacts": [artifacts.summary(artifact) for artifact in results], "reused": reused})
        return
    for line in reused:
        click.echo(line)
    for artifact in results:
        _print(artifact)


def _print(artifact: Artifact) -> None:
    click.echo(f"{artifact.path}  {tables.size(artifact.size)}  {artifacts.verdict(artifact)}")
    click.echo(f"  inputs: {', '.join(map(str, artifact.inputs))}")
    click.echo(f"  outputs: {', '.join(map(str, artifact.outputs))}")
    if artifact.quantization is not None:
        quantization.outcome(artifact)
    artifacts.parity(artifact)
    artifacts.notes(artifact)


def _help(targets: tuple[str, ...], precision: str | None) -> None:
    """The options of every step that leads from a live model to the targets."""
    from ..contract.target import MODULE
    from ..plugins import manager
    from ..work import plan

    def describe(name: str) -> Target:
        return manager.target(name).target

    shown: set[tuple[str, str]] = set()
    for target in targets:
        for step in plan.route(target, precision, MODULE, describe).steps:
            if (step.target == target or precision is not None) and (step.target, step.verb) not in shown:
                shown.add((step.target, step.verb))
                shared.option_help(step.target, describe(step.target).verb(step.verb).options, step.verb)
