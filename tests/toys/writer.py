"""A target with snippets in two languages; it stores the captured program, and quantizes to a copy."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from modelexport import hookimpl
from modelexport.options import option
from modelexport.quantization import Report
from modelexport.target import Target
from modelexport.types import Build, Session


@dataclass(frozen=True)
class Options:
    """Where to write."""

    escape: bool = option(False, "give the snippet a name outside its folder")


@hookimpl
def mx_target():
    return Target(
        name="writer",
        summary="a toy with snippets",
        options={"export": Options},
        snippets=("cobol", "forth"),
    )


@hookimpl
def mx_export(source, out, options):
    import torch

    torch.export.save(source.program, out / "program.pt2")
    return Build("program.pt2", details={"escape": options.escape})


@hookimpl
def mx_quantize(artifact, out):
    shutil.copyfile(artifact.entry_path, out / "program.pt2")
    return Build("program.pt2", precision="int8", details={"quantization": Report("copy", {}, ()).to_json()})


@hookimpl
def mx_run(artifact):
    import torch
    from modelexport import torchref

    program = torch.export.load(artifact.entry_path)
    names = [spec.name for spec in artifact.outputs]
    call = torchref.reference(program.module(), artifact.inputs, names, program)
    return Session(lambda inputs: call(dict(inputs)), artifact.inputs, artifact.outputs)


@hookimpl
def mx_benchmark(inputs):
    return {"values": sum(array.size for array in inputs.values())}


@hookimpl
def mx_snippet(artifact, language):
    name = "../escaped" if artifact.details["escape"] else f"run.{language}"
    listed = ", ".join(map(str, (*artifact.inputs, *artifact.outputs)))
    return {name: f"{language}: {Path(artifact.entry).name} {artifact.precision} {listed}\n"}
