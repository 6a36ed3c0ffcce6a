"""mx export"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..known import EXAMPLE
from . import show


@click.command(
    epilog=show.examples(
        f"mx export ./my-bert -t {EXAMPLE}",
        f"mx export nets.py:classifier -t {EXAMPLE} --input 'x:float32[batch=1..32,3,224,224]'",
        f"mx export package.module:factory -t {EXAMPLE} --weights model.safetensors -k opset=20",
        f"mx export model.pt2 -t {EXAMPLE} --sample real.npz --tolerance 1e-4",
        f"mx export ./my-bert -t {EXAMPLE} --precision int8 --calibration texts.txt --max-drop 0.005",
        f"mx export -t {EXAMPLE} -k help",
    )
)
@click.argument("source", required=False)
@click.option("-t", "--target", "targets", multiple=True, required=True, shell_complete=show.complete_targets,
              help="Target to export to; give it several times for several.")  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("build"), show_default=True,
              help="Folder in which NAME.TARGET is written.")  # fmt: skip
@click.option("--name", help="Name of the artifact; the source's own by default.")
@click.option("-k", "pairs", multiple=True, metavar="KEY=VALUE", help="Option of a target; `-k help` lists them.")
@click.option("--precision", metavar="PRECISION",
              help="Go on to this precision (fp16, bf16, int8, int4…): optimize and quantize as the target does "
              "that. Each step is an artifact; finished ones are reused.")  # fmt: skip
@show.calibration_options
@click.option("--input", "inputs", multiple=True, metavar="DECLARATION",
              help="Declare an input: NAME:DTYPE[DIM,…], where a DIM is a size, a name, or NAME=LOW..HIGH; "
              "add =LOW..HIGH for the values it may take, or =mask.")  # fmt: skip
@click.option("--dim", "dims", multiple=True, metavar="[TARGET.]NAME=SIZE",
              help="Hold a dynamic dim at a SIZE or in LOW..HIGH[/STEP], for every target or one.")  # fmt: skip
@click.option("--snippet", multiple=True, metavar="LANGUAGE", shell_complete=show.complete_languages,
              help="Write code that loads and runs the model into the artifact: cpp, swift….")  # fmt: skip
@click.option("--sample", type=click.Path(path_type=Path), help="Real inputs (.npz) for the parity gate.")
@click.option("--weights", type=click.Path(path_type=Path), help="Weights to load into what the factory returns.")
@click.option("--task", help="Task of a Hugging Face model; its architecture's own by default.")
@click.option("--register", multiple=True, metavar="MODULE", help="Module to import first: custom operators.")
@click.option("--tolerance", help="Parity budget: a number, or atol=…,rtol=…,noise=…,cosine=….")
@click.option("--no-verify", is_flag=True, help="Skip the parity gate; the manifest then says so.")
@click.option("--allow-pickle", is_flag=True, help="Unpickle weights: runs code that the file holds.")
@click.option("--allow-download", is_flag=True, help="Let a source plugin download a model.")
@show.standard_options
def command(
    source: str | None,
    targets: tuple[str, ...],
    pairs: tuple[str, ...],
    no_verify: bool,
    as_json: bool,
    precision: str | None,
    **given: Any,
) -> None:
    """Export SOURCE to every target, and verify each copy in a fresh process.

    SOURCE is file.py:factory, package.module:factory, model.pt2, the folder of an artifact, or anything an
    installed source plugin loads: a Hugging Face folder or cached id, an existing model file.
    """
    from .. import api, options, plan, plugins

    if "help" in pairs:
        loaded = [plugins.target(name).target for name in targets]
        for verb in (verb for verb in ("export", *plan.AFTER_EXPORT) if verb == "export" or precision is not None):
            able = [target for target in loaded if verb in plan.recipe(target, precision)]
            show.option_help({t.name: t.options.get(verb, options.NoOptions) for t in able}, verb)
        return
    if source is None:
        raise click.UsageError("SOURCE is missing: which model?")
    reused: list[str] = []
    with show.stages() as progress:

        def stage(line: str) -> None:
            if line.startswith(api.REUSED):
                reused.append(line)
            progress(line)

        artifacts = api.export(
            source,
            targets,
            options=options.parse_pairs(pairs),
            verify=not no_verify,
            precision=precision,
            progress=stage,
            **given,
        )
    if as_json:
        show.as_json({"artifacts": [show.summary(artifact) for artifact in artifacts], "reused": reused})
        return
    for line in reused:
        click.echo(line)
    for artifact in artifacts:
        click.echo(f"{artifact.path}  {show.size(artifact.size)}  {show.verdict(artifact)}")
        click.echo(f"  inputs: {', '.join(map(str, artifact.inputs))}")
        click.echo(f"  outputs: {', '.join(map(str, artifact.outputs))}")
        if "quantization" in artifact.details:
            show.quantized(artifact)
        show.parity(artifact)
        show.notes(artifact)
