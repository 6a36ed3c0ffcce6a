"""A compiler: it takes another target's files, says what it made of them, and nothing here can run the result."""

import shutil
from dataclasses import dataclass
from typing import Literal

from modelexport.contract import Build, CompiledLayer, QuantizationReport, Target, Verb, hookimpl, option
from modelexport.errors import CannotRunHere
from toy_tape import log


@dataclass(frozen=True)
class Options:
    """What to stamp on it."""

    stamp: Literal["plain", "gold"] = option("plain", "the stamp")


@dataclass(frozen=True)
class Details:
    """What the manifest says of it."""

    verified_before: bool | Literal["structure"] | None = None


@hookimpl
def mx_target():
    return Target(
        name="stamper",
        summary="a toy compiler",
        consumes=("tape",),
        verbs={
            "export": Verb(Options, precisions={"int8": {"stamp": "gold"}}),
            "quantize": Verb(precisions={"int4": {}}),
        },
        details=Details,
    )


@hookimpl
def mx_machine():
    return {"run": "no anvil", "optimize": "it can't anywhere"}


@hookimpl
def mx_export(source, out, options):
    log("export stamper")
    shutil.copyfile(source.entry_path, out / "stamped.bin")
    layers = [CompiledLayer("hammer", "blow", "float32", "add + mul"), CompiledLayer("rest", "pause", "")]
    layers += [CompiledLayer(f"polish.{i}", "rub", "int8") for i in range(3)]
    precision = "int8" if options.stamp == "gold" else None
    details = {"verified_before": source.parity.verified}
    return Build("stamped.bin", (), precision, details, layers=tuple(layers))


@hookimpl
def mx_quantize(artifact, out):
    log("quantize stamper")
    shutil.copyfile(artifact.entry_path, out / "stamped.bin")
    return Build("stamped.bin", precision="int4", quantization=QuantizationReport("copy"))


@hookimpl
def mx_run(artifact):
    raise CannotRunHere("this machine has no anvil", "take it to a smithy")
