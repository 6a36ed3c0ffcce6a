"""A compiler of what `rounder` writes: it says nothing of precisions, and packs whatever it is given."""

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
    return Target(name="packer", summary="NumPy, packed", consumes=("rounder", "tape"), details=Details)


@hookimpl
def mx_export(source, out):
    log("export packer")
    shutil.copyfile(source.entry_path, out / "model.packed")
    return Build("model.packed", details={"made_of": source.precision})


@hookimpl
def mx_run(artifact):
    return Session(player(load(artifact.entry_path)), artifact.inputs, artifact.outputs)
