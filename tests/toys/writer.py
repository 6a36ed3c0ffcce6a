"""A target with snippets in two languages; it stores the captured program, and quantizes to a copy."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from modelexport.contract import Build, QuantizationReport, Session, Target, Verb, hookimpl, option
from modelexport.toolkit import module_reference


@dataclass(frozen=True)
class Options:
    """Where to write."""

    escape: bool = option(False, "give the snippet a name outside its folder")


@hookimpl
def mx_target():
    return Target(
        name="writer",
        summary="a toy with snippets",
        verbs={"export": Verb(Options)},
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
    return Build("program.pt2", precision="int8", quantization=QuantizationReport("copy"))


@hookimpl
def mx_run(artifact):
    import torch

    program = torch.export.load(artifact.entry_path)
    names = [spec.name for spec in artifact.outputs]
    call = module_reference(program.module(), artifact.inputs, names, program)
    return Session(lambda inputs: call(dict(inputs)), artifact.inputs, artifact.outputs)


@hookimpl
def mx_benchmark(inputs):
    return {"values": sum(array.size for array in inputs.values())}


@hookimpl
def mx_snippet(artifact, language):
    name = "../escaped" if artifact.details["escape"] else f"run.{language}"
    listed = ", ".join(map(str, (*artifact.inputs, *artifact.outputs)))
    return {name: f"{language}: {Path(artifact.entry).name} {artifact.precision} {listed}\n"}
