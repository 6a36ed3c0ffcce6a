"""A compiler of what `rounder` writes: it takes int8 with seven bits, straight from the export."""

import shutil
from dataclasses import dataclass

from modelexport import Build, Session, Target, hookimpl
from toy_rounder import load, log, player


@dataclass(frozen=True)
class Details:
    """What the manifest says of it."""

    made_of: str


@hookimpl
def mx_target():
    return Target(
        name="presser",
        summary="NumPy, pressed",
        consumes=("rounder",),
        compiles={"int8": {"quantize": {"bits": "7"}}},
        details=Details,
    )


@hookimpl
def mx_export(source, out):
    log("export presser")
    shutil.copyfile(source.entry_path, out / "model.pressed")
    return Build("model.pressed", details={"made_of": source.precision})


@hookimpl
def mx_run(artifact):
    return Session(player(load(artifact.entry_path)), artifact.inputs, artifact.outputs)
