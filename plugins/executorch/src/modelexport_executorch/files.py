"""The files of an artifact: model.pte, which is deployed, and the captured program that later steps start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelexport.contract import Artifact, Captured
from modelexport.errors import ConversionError, OptionError, RuntimeFailure, first_line, is_disk_error
from modelexport.toolkit import dynamic_shapes, load_program

from . import backend, pool
from . import program as program_file

#: the program, and the program with test cases inside
FILE, BUNDLE = "model.pte", "model.bpte"

#: what is not deployed: the captured program, and ExecuTorch's record of the lowering
PROGRAM, RECORD = "source/captured.pt2", "source/etrecord.bin"


def load(path: Path) -> Any:
    """The method `forward` of a program file. Raises RuntimeFailure with what the runtime said."""
    native = backend.runtime()
    program_file.check(path)
    with backend.overheard() as lines:
        try:
            program = native._load_program(str(path), program_verification=native.Verification.InternalConsistency)
            return pool.used_by(program.load_method("forward"))
        except Exception as error:
            if is_disk_error(error):
                raise
            problem = error
    raise RuntimeFailure(
        f"ExecuTorch can't load {path.name}: {backend.complaint(lines) or first_line(problem)}",
        "export it again: the file is damaged, or of another version of ExecuTorch",
    ) from problem


def kernels_in(path: Path) -> list[str]:
    """Names of the kernels that a program file calls, as selective builds want them: `aten::add.out`."""
    from executorch.codegen.tools.selective_build import _get_program_from_buffer, _get_program_operators

    return sorted(_get_program_operators(_get_program_from_buffer(path.read_bytes())))


def keep(program: Any, out: Path) -> None:
    """Save the captured program, which is all that quantization starts from, in the artifact's folder."""
    import torch

    (out / PROGRAM).parent.mkdir(exist_ok=True)
    torch.export.save(program, out / PROGRAM)


def kept(artifact: Artifact, trusted: bool = False) -> Captured:
    """The captured program that the artifact keeps.

    Raises OptionError where it keeps none, ConversionError where this PyTorch can't load it, and UnsafeFileError
    where that might run code that the file holds, unless it is `trusted`.
    """
    path = artifact.path / PROGRAM
    if not path.is_file():
        raise OptionError(
            f"{artifact.path} does not keep the captured program, which quantization starts from",
            "export it again, without -k keep-program=false",
        )
    program = load_program(
        path, trusted, ConversionError, "export the model again with this torch", flag="-k allow-pickle=true"
    )
    return Captured(program, artifact.inputs, artifact.outputs, dynamic_shapes(artifact.inputs))
