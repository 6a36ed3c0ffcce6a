"""A compiler: it takes another target's files, says what it made of them, and nothing here can run the result."""

import shutil
from dataclasses import dataclass
from typing import Literal

from modelexport import hookimpl
from modelexport.errors import CannotRunHere
from modelexport.options import option
from modelexport.quantization import Report
from modelexport.target import Target
from modelexport.types import Build


@dataclass(frozen=True)
class Options:
    """What to stamp on it."""

    stamp: Literal["plain", "gold"] = option("plain", "the stamp")


@hookimpl
def mx_target():
    return Target(
        name="stamper",
        summary="a toy compiler",
        consumes=("writer",),
        options={"export": Options},
        precisions={"int8": {"export": {"stamp": "gold"}}, "int4": {"quantize": {}}},
    )


@hookimpl
def mx_machine():
    return {"run": "no anvil", "optimize": "it can't anywhere"}


@hookimpl
def mx_export(source, out, options):
    shutil.copyfile(source.entry_path, out / "stamped.bin")
    layers = [{"name": "hammer", "kind": "blow", "precision": "float32", "source": "add + mul"}]
    layers += [{"name": "rest", "kind": "pause", "precision": "", "source": ""}]
    layers += [{"name": f"polish.{i}", "kind": "rub", "precision": "int8"} for i in range(3)]
    precision = "int8" if options.stamp == "gold" else source.precision
    return Build("stamped.bin", (), precision, {"layers": layers, "verified before": source.parity.verified})


@hookimpl
def mx_quantize(artifact, out):
    shutil.copyfile(artifact.entry_path, out / "stamped.bin")
    return Build("stamped.bin", precision="int4", details={"quantization": Report("copy", {}, ()).to_json()})


@hookimpl
def mx_run(artifact):
    raise CannotRunHere("this machine has no anvil", "take it to a smithy")
